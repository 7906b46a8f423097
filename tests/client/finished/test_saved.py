"""A node's own folder gives what the folder of the same run gives elsewhere (client/finished/saved.py)."""

import json
from functools import cache
from urllib.request import Request, urlopen

import pytest

from client.finished.run import load_run, load_test_rows
from client.node import load_node
from client.serving.adapter_folder import read_adapter
from client.training.evaluate import evaluate
from tests.helpers.client.saved import node_folder
from tests.helpers.client.serving import served
from tests.helpers.end_to_end.command import call

KINDS = ["bert", "gpt2 classes", "llama", "gpt2 words"]
PROMPT = "a cow by the old barn is seen at the"


@pytest.fixture(scope="module")
def folder_of(run_of, tmp_path_factory):
    """Return the function from a key of RUNS to a node's folder of that run."""
    runs = tmp_path_factory.mktemp("nodes")
    return cache(lambda kind: node_folder(runs, run_of(kind), name=kind.replace(" ", "-")))


def same(one, other):
    return one.keys() == other.keys() and all(
        (one[name].a == each.a).all() and (one[name].b == each.b).all() for name, each in other.items()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_its_update_is_that_of_the_run_to_the_bit_also_beside_another_that_is_served(folder_of, run_of, kind):
    it = load_run(run_of(kind))
    assert same(load_run(folder_of(kind)).adapter, it.adapter)
    assert same(read_adapter(folder_of(kind), it.node, it.base), it.adapter)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_measures_it_on_the_rows_that_the_node_holds_out(folder_of, run_of, kind):
    it = load_run(run_of(kind))
    skeleton, lora = it.attach()
    ended = call("evaluate", folder_of(kind))
    assert ended.status == 0, ended.err
    expected = evaluate(skeleton, lora, it.adapter, load_node(folder_of(kind) / "node.toml").held)
    assert json.loads(ended.out)["test_loss"] == expected.loss
    assert evaluate(skeleton, lora, it.adapter, load_test_rows(run_of(kind))[1]).loss != expected.loss  # control


@pytest.mark.parametrize("raw", [(), ("--raw",)])
def test_generate_writes_what_it_writes_of_the_run(folder_of, run_of, raw):
    one, other = (
        call("generate", folder, "--prompt", PROMPT, "--tokens", 8, *raw)
        for folder in (folder_of("llama"), run_of("llama"))
    )
    assert one.status == 0, one.err
    assert one.out == other.out


def test_generate_refuses_a_classifier_as_it_does_of_the_run(folder_of):
    ended = call("generate", folder_of("bert"), "--prompt", PROMPT)
    assert ended.status == 2
    assert "was trained for classification; generate needs" in ended.err


@pytest.mark.parametrize(
    ("kind", "form"),
    [("bert", "peft"), ("bert", "merged"), ("llama", "peft"), ("llama", "merged")],
)
def test_export_writes_the_bytes_that_the_run_gives(folder_of, run_of, kind, form, tmp_path):
    for name, folder in (("node", folder_of(kind)), ("run", run_of(kind))):
        ended = call("export", folder, tmp_path / name, "--format", form, "--base-name", "org/base")
        assert ended.status == 0, ended.err
    one, other = ({each.name: each.read_bytes() for each in (tmp_path / name).iterdir()} for name in ("node", "run"))
    assert one.pop("README.md")
    assert other.pop("README.md")  # It has the operator's figures, which a node does not know.
    assert one
    assert one == other


def ask(url, path, **body):
    request = Request(f"{url}/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_serve_answers_the_same_under_the_name_of_either_folder(folder_of, run_of, tmp_path):
    folder, run = folder_of("bert"), run_of("bert")
    for one, other in ((folder, run), (run, folder)):
        with served(tmp_path / "log", one, "--adapter", f"other={other}") as (_, url):
            answers = {name: ask(url, "classify", model=name, input=PROMPT)["data"] for name in (one.name, "other")}
            assert answers[one.name][0]["probabilities"] == pytest.approx(answers["other"][0]["probabilities"])


def test_serve_continues_a_text_as_generate_does(folder_of, run_of, tmp_path):
    folder = folder_of("llama")
    with served(tmp_path / "log", folder) as (_, url):
        answer = ask(url, "completions", model=folder.name, prompt=PROMPT, max_tokens=8, temperature=0)
    assert answer["choices"][0]["text"] == call("generate", run_of("llama"), "--prompt", PROMPT, "--tokens", 8).out[:-1]
