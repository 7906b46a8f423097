"""The model card of an export (client/exporting/card.py): what it tells, how it opens, and that texts stay texts."""

import json
import re
import shutil

import pytest
import torch
import yaml
from markdown_it import MarkdownIt

from client.finished.run import load_run
from client.results.folder import NodeFolder
from tests.client.conftest import BRIEF
from tests.helpers.client.exporting import exported
from tests.helpers.client.nodes import PLACES
from tests.helpers.client.outputs import gap, logits_of, run_logits
from tests.helpers.client.saved import node_folder
from tests.helpers.end_to_end.command import call, refusal
from tests.helpers.simulations.runs import entries, records, run_tiny, toy_rows, write_recipe

HOSTILE = (
    "](http://evil) [x](http://evil)",
    "<script>alert(1)</script>",
    "a | b\n\n# heading\n```",
    "'''; import os\n---\nlicense: mit",
    "www.evil.org http://evil.org **bold** ![i](http://evil/i.png)",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Return a run with eleven labels, some of which would like to be more than text."""
    folder = tmp_path_factory.mktemp("hostile")
    labels = (*HOSTILE, *(f"topic {number}" for number in range(6)))
    rows = [row | {"label": labels[n % 11]} for n, row in enumerate(toy_rows(text="text"))]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = write_recipe(folder, folder / "rows.jsonl")
    return run_tiny(folder, *BRIEF, "clients.partition=iid", recipe=recipe)


def card(folder):
    """Return the front matter and the rest."""
    _, front, rest = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), rest


def code(text, language="python"):
    return re.search(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1]


def opened(folder, base, monkeypatch, name="org/base"):
    """Run the card's own code in the folder, beside the base under the name that the card has for it."""
    (folder / name).parent.mkdir()
    (folder / name).symlink_to(base)
    monkeypatch.chdir(folder)
    found = {}
    exec(code(card(folder)[1]), found)
    return found


@pytest.mark.parametrize("kind", ["bert", "gpt2 classes", "gpt2", "llama"])
def test_the_code_of_the_card_gives_the_logits_of_the_run(run_of, tmp_path, monkeypatch, kind):
    run = run_of(kind)
    exported(run, tmp_path / "out", base_name="org/base")
    found = opened(tmp_path / "out", load_run(run).base.folder, monkeypatch)
    assert gap(logits_of(found["model"], run), run_logits(run)) < 1e-5


def test_the_code_of_a_merged_card_gives_the_logits_of_the_run(run_of, tmp_path, monkeypatch):
    exported(run_of("gpt2"), tmp_path / "out", form="merged")
    monkeypatch.chdir(tmp_path / "out")
    found = {}
    exec(code(card(tmp_path / "out")[1]), found)
    assert gap(logits_of(found["model"], run_of("gpt2")), run_logits(run_of("gpt2"))) < 1e-5


def test_found_A4_an_adapter_of_eleven_labels_opens_with_their_names(hostile, tmp_path, monkeypatch):
    exported(hostile, tmp_path / "out", base_name="org/base")
    trained = load_run(hostile)
    found = opened(tmp_path / "out", trained.base.folder, monkeypatch)
    assert found["base"].config.id2label == dict(enumerate(trained.node.data.labels))
    assert set(HOSTILE) < set(trained.node.data.labels)
    batch = {"input_ids": torch.arange(4, 24).reshape(4, 5)}
    assert found["model"](**batch).logits.shape == (4, 11)


def test_texts_of_others_stay_texts(hostile, tmp_path):
    exported(hostile, tmp_path / "out", base_name="org/base")
    front, rest = card(tmp_path / "out")
    assert front.keys() == {"base_model", "library_name", "pipeline_tag", "tags"}
    page = MarkdownIt("gfm-like").disable("linkify").parse(rest)
    kinds = [token.type for part in page for token in (part, *(part.children or ()))]
    assert not {kind for kind in kinds if kind.startswith(("link", "image", "html", "strong", "em"))}
    assert [t.markup for t in page if t.type == "heading_open"] == ["#", "##"]
    text = [token.content for part in page for token in part.children or () if token.type == "text"]
    assert any("<script>alert(1)</script>" in each for each in text)
    assert any("[x](http://evil)" in each for each in text)
    outside = rest.replace(code(rest), "")
    assert not re.search(r"http://|www\.", outside)  # which GitHub's Markdown makes links of


def test_the_card_tells_the_run(run_of, tmp_path):
    run = run_of("bert")
    exported(run, tmp_path / "out", rank=2, base_name="org/base")
    front, rest = card(tmp_path / "out")
    assert front == {
        "base_model": "org/base",
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["lora", "federated-learning", "fedlora"],
    }
    table = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", rest, re.MULTILINE))
    first, last = records(run)[0], records(run)[-1]
    rows = sum(client["rows"] for client in last["clients"])
    assert table["nodes"] == f"4, with {rows} rows in all"
    assert table["labels, in order"] == ", ".join(PLACES)
    assert (table["rounds"], table["ranks of the nodes"], table["algorithm"]) == ("3", "1, 2, 4, 8", "increments")
    assert table["hash of the update"] == entries(run)[-1]["adapter_hash"]
    assert table["fingerprint of the base"] == entries(run)[-1]["base"]
    assert table["last line of the run's log"] == entries(run)[-1]["hash"]
    assert f"| loss on test rows | {first['test_loss']:.4g} | {last['test_loss']:.4g} |" in rest
    assert "over all modules; " in table["relative error of this rank"]


def test_the_card_of_a_nodes_own_folder_tells_what_the_node_knows(run_of, tmp_path):
    folder = NodeFolder.open(node_folder(tmp_path / "nodes", run_of("bert")))
    exported(folder.path, tmp_path / "out", base_name="org/base")
    rest = card(tmp_path / "out")[1]
    table = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", rest, re.MULTILINE))
    own = "of the node that exported it"
    assert (table["rounds"], table[f"rows {own}"], table[f"rank {own}"]) == ("3", "17", str(folder.node.rank))
    assert table["hash of the update"] == folder.update.digest
    assert table["SHA-256 of the base"] == folder.update.base_hash
    assert f"| loss on held-out rows {own} | 2 | 1 |" in rest
    assert folder.node.name not in rest


def test_no_name_of_a_node_leaves_the_run(run_of, tmp_path):
    run = run_of("bert")
    exported(run, tmp_path / "out")
    names = {client["name"] for client in records(run)[-1]["clients"]}
    assert names
    assert not [name for name in names if name in (tmp_path / "out" / "README.md").read_text()]


@pytest.mark.parametrize(("rank", "fits"), [(None, 32), (3, 8)])
def test_the_card_has_the_rank_for_vllm(wide, tmp_path, rank, fits):
    exported(wide, tmp_path / "out", rank=rank, base_name="org/base")
    words = code(card(tmp_path / "out")[1], "bash").split()
    assert words == [
        "vllm",
        "serve",
        "org/base",
        "--enable-lora",
        "--max-lora-rank",
        str(fits),
        "--lora-modules",
        "adapter=.",
    ]


def test_the_card_of_a_gguf_file_is_for_llama_cpp_and_ollama(wide, tmp_path):
    exported(wide, tmp_path / "out", form="gguf")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["README.md", "adapter.gguf"]
    front, rest = card(tmp_path / "out")
    assert "base_model" not in front  # no hub has a model of this name
    assert "llama-cli -m base.gguf --lora adapter.gguf\n" in rest
    assert "FROM ./base.gguf\nADAPTER ./adapter.gguf\n" in rest


@pytest.mark.parametrize("missing", [("metrics.jsonl",), ("config.toml",), ("metrics.jsonl", "config.toml", "journal")])
def test_a_card_is_written_of_what_is_there(run_of, tmp_path, missing):
    run = shutil.copytree(run_of("bert"), tmp_path / "run")
    for name in missing:
        shutil.rmtree(run / name) if name == "journal" else (run / name).unlink()
    exported(run, tmp_path / "out")
    rest = card(tmp_path / "out")[1]
    assert ("| rounds | 3 |" in rest) == ("metrics.jsonl" not in missing)
    assert ("| algorithm |" in rest) == ("config.toml" not in missing)
    assert ("| hash of the update |" in rest) == ("journal" not in missing)


@pytest.mark.parametrize("line", ["{", "[]", '{"round": 1, "clients": [{}]}', '{"round": 1, "test_loss": "low"}'])
def test_metrics_that_are_none_are_refused(run_of, tmp_path, line):
    run = shutil.copytree(run_of("bert"), tmp_path / "run")
    (run / "metrics.jsonl").write_text(line + "\n")
    assert f"{run / 'metrics.jsonl'}: a line lacks" in refusal(call("export", run, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
