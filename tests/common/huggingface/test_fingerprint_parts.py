"""A node of another fingerprint is told which part differs, whoever states the parts and in whatever release."""

import shutil

import pytest

from client.check import describe_base
from client.node import describe_model
from client.settings import read_node
from common.huggingface.fingerprint_parts import refusal_of, settings_parts, tell_differences
from common.huggingface.model_description import MAX_TEXT, ModelDescription
from simulations.tiny_base import tiny_base
from tests.helpers.client.nodes import PLACES, write_node
from tests.helpers.client.own_heads import with_own_head

LABELS = [f"class {number}" for number in range(100)]
SHAPES = {"q": (8, 8), "v": (8, 4)}


def described(folder, **settings):
    return describe_model(read_node(write_node(folder, **settings)), "query-value")


def another_base(folder, changed):
    """Return a copy of the tiny base with another tokenizer or other weights."""
    shutil.copytree(tiny_base("bert"), folder)
    file, data = folder / changed, (folder / changed).read_bytes()
    file.write_bytes(data + b" " if changed == "tokenizer.json" else data[:-1] + bytes([data[-1] ^ 1]))
    return str(folder)


CHANGES = {
    "base model": lambda folder: {"base": another_base(folder / "b", "model.safetensors")},
    "tokenizer": lambda folder: {"base": another_base(folder / "b", "tokenizer.json")},
    "labels": lambda folder: {"labels": PLACES[::-1]},
    "max_length": lambda folder: {"max_length": 31},
}


@pytest.mark.parametrize("part", CHANGES)
def test_found_A6_the_part_that_differs_is_told_and_no_other(part, tmp_path):
    run = described(tmp_path / "run")
    node = described(tmp_path / "node", **CHANGES[part](tmp_path))
    assert node.fingerprint != run.fingerprint
    assert [key for key in run.parts if run.parts[key] != node.parts[key]] == [part]
    told = tell_differences(run.parts, node.parts)
    assert told.startswith(f"{part}: the run has ")
    assert "; " not in told
    assert all(model.parts[part][:12] in told for model in (run, node))


def test_found_A6_other_targets_and_another_task_are_told(tmp_path):
    run = described(tmp_path / "run", kind="llama", task="causal-lm")
    node = described(tmp_path / "node", kind="llama", task="preference", beta=0.2)
    all_linear = describe_model(read_node(tmp_path / "run" / "client.toml"), "all-linear")
    assert tell_differences(run.parts, node.parts) == "task: the run has causal-lm, the node preference"
    assert tell_differences(run.parts, all_linear.parts).startswith("targets: the run has 4 modules, SHA-256 ")


def test_found_B8_labels_in_another_order_are_told_with_the_keys_that_take_the_runs(tmp_path):
    base = str(with_own_head(tmp_path / "base", ("b", "a")))
    rows = {"base": base, "rows": 0}
    run, node = (described(tmp_path / head, labels=("a", "b"), head=head, **rows) for head in ("listed", "keep"))
    told = tell_differences(run.parts, node.parts)
    assert told == (
        'labels: the run has ["a", "b"], the node ["b", "a"] (set labels in the run\'s order, and head = "listed" if '
        "the base's own head has another order)"
    )
    again = described(tmp_path / "again", labels=("a", "b"), head="listed", **rows)
    assert again.fingerprint == run.fingerprint
    assert "set labels" not in tell_differences({"labels": '["a", "b"]'}, {"labels": '["a", "c"]'})  # control


def test_equal_nodes_are_told_nothing(tmp_path):
    one, two = (described(tmp_path / name) for name in "ab")
    assert (one.fingerprint, one.parts) == (two.fingerprint, two.parts)
    assert refusal_of({"base": one.fingerprint}, two.to_values()) is None
    assert refusal_of({}, two.to_values()) is None  # a server of an earlier release asks without


def test_the_operators_file_has_the_parts_of_its_nodes(tmp_path):
    node = read_node(write_node(tmp_path))
    assert describe_base(node, "query-value").description.parts == describe_model(node, "query-value").parts


def test_long_labels_are_shortened_and_still_told_apart():
    one, two = (settings_parts(SHAPES, "classification", labels, 8, {})["labels"] for labels in (LABELS, LABELS[::-1]))
    last = settings_parts(SHAPES, "classification", [*LABELS[:-1], "other"], 8, {})["labels"]
    assert len({one, two, last}) == 3
    assert "100 in all" in one
    assert max(map(len, (one, two, last))) <= MAX_TEXT


def test_where_an_earlier_release_states_less_it_says_what_may_differ():
    old = {"task": "causal-lm", "max_length": "8"}
    assert tell_differences(old, old | {"base model": "1" * 64}) == "base model or tokenizer"
    assert tell_differences({}, {}) == "base model or tokenizer"


@pytest.mark.parametrize(
    "parts",
    [
        {"parts": ["a"], "part_values": ["b", "c"]},
        {"parts": ["a"], "part_values": [3]},
        {"parts": ["a"], "part_values": ["x" * (MAX_TEXT + 1)]},
        {"parts": ["a\x1b"], "part_values": ["b"]},
        {"parts": ["a"], "part_values": ["\x1b[2J"]},
        {"parts": [f"p{number}" for number in range(17)], "part_values": ["b"] * 17},
        {"parts": 3, "part_values": []},
    ],
)
def test_parts_of_a_peer_that_are_no_short_printable_texts_are_malformed(parts):
    plain = ModelDescription("f", "causal-lm", SHAPES).to_values()
    assert ModelDescription.from_values(plain).parts == {}
    with pytest.raises((TypeError, ValueError)):
        ModelDescription.from_values(plain | parts)


def test_what_a_server_states_cannot_draw_on_the_nodes_terminal():
    asked = {"base": "other", "parts": ["task"], "part_values": ["\x1b[2J"]}
    node = ModelDescription("f", "causal-lm", SHAPES, parts={"task": "causal-lm"}).to_values()
    assert "\x1b" not in (refusal_of(asked, node) or "")


def test_a_replaced_head_is_told_whichever_side_has_it():
    assert tell_differences({"head": '"new"'}, {}) == 'head: the run has "new", the node "keep"'
    assert tell_differences({}, {"head": '"new"'}) == 'head: the run has "keep", the node "new"'
