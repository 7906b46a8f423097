"""Found by use: a base model with a classification head of its own, whose classes have an order."""

import json
import re

import pytest
import tomli_w

from client.finished.run import load_test_rows
from client.settings import read_node
from common.settings.reader import read_toml
from simulations.tiny_base import tiny_base
from tests.helpers.client.own_heads import own_rows, with_own_head, write_rows
from tests.helpers.end_to_end.command import call, refusal, settings
from tests.helpers.simulations.runs import records, write_recipe

SHORT = ("train.rounds=1", "train.steps=1", "train.lr=1e-6", "workers=1", "clients.count=4")


def simulate(folder, base, rows, *more):
    """Run one round of hardly any training on these rows."""
    recipe = write_recipe(folder, write_rows(folder / "rows.jsonl", rows), text="text", label="label")
    words = settings(*SHORT, f"base.path={base}", "clients.partition=iid", *more)
    return call("simulate", recipe, "--out", folder, "--name", "run", *words), folder / "run"


def first_accuracy(ended, run):
    assert ended.status == 0, ended.err
    return records(run)[0]["test_accuracy"]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_found_B8_a_head_with_the_rows_classes_keeps_its_own_order(kind, tmp_path, caplog):
    base = with_own_head(tmp_path / "base", ("b", "a"), kind)
    ended, run = simulate(tmp_path, base, own_rows(base, ("b", "a")))
    assert first_accuracy(ended, run) == 1.0
    assert "classification head" not in caplog.text  # There is nothing to warn of.
    assert read_toml(run / "test.toml")["labels"] == ["b", "a"]
    assert '"test_accuracy": 1.0' in call("evaluate", run).out


def test_found_B8_control_the_order_of_the_alphabet_is_wrong_everywhere(tmp_path, caplog):
    base = with_own_head(tmp_path / "base", ("b", "a"))
    ended, run = simulate(tmp_path, base, own_rows(base, ("b", "a")), "base.head=listed")
    assert first_accuracy(ended, run) == 0.0
    assert "b is taken for 'a', a is taken for 'b'" in caplog.text


def test_found_B8_case_blanks_and_numbers_make_no_other_class(tmp_path):
    base = with_own_head(tmp_path / "base", ("POSITIVE ", "Negative"))
    ended, run = simulate(tmp_path, base, own_rows(base, ("positive", "negative")))
    assert first_accuracy(ended, run) == 1.0


def test_found_B8_numbers_are_the_outputs_of_a_head_without_names(tmp_path):
    numbers = tuple(str(number) for number in range(11))  # "10" comes before "2"
    base = with_own_head(tmp_path / "base", numbers, named=False)
    ended, run = simulate(tmp_path, base, own_rows(base, numbers))
    assert first_accuracy(ended, run) == 1.0


@pytest.mark.parametrize(
    ("named", "told"), [(True, "other classes than the labels: up is taken for 'no'"), (False, "LABEL_0 is taken")]
)
def test_found_B8_other_names_are_said_with_the_remedy(named, told, tmp_path, caplog):
    base = with_own_head(tmp_path / "base", ("up", "down"), named=named)
    ended, run = simulate(tmp_path, base, own_rows(base, ("no", "yes")))
    assert first_accuracy(ended, run) == 1.0
    assert told in caplog.text
    assert 'head = "new" (in a recipe: [base] head) replaces it' in caplog.text


@pytest.mark.parametrize(("kind", "classes"), [("bert", 3), ("roberta", 3), ("llama", 3), ("deberta", 1), ("gpt2", 4)])
def test_found_B9_another_number_of_classes_is_refused_in_our_words(kind, classes, tmp_path):
    names = [f"class {place}" for place in range(classes)]
    base = with_own_head(tmp_path / "base", names, kind) if classes > 1 else _regression(tmp_path / "base", kind)
    rows = [{"text": "a cow", "label": "no"}, {"text": "a boat", "label": "yes"}] * 20
    message = " ".join(refusal(simulate(tmp_path, base, rows)[0]).split())
    assert f"{base} has a classification head of its own with {classes} classes" in message
    assert "there are 2 labels ('no', 'yes')" in message
    assert 'head = "new"' in message
    assert "ignore_mismatched_sizes" not in message
    assert not (tmp_path / "run").exists()


def _regression(folder, kind):
    with_own_head(folder, ["only"], kind)
    return folder


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
@pytest.mark.parametrize("classes", [("b", "a"), ("x", "y", "z")])
def test_found_B8_a_head_is_replaced_when_that_is_asked(kind, classes, tmp_path):
    base = with_own_head(tmp_path / "base", classes, kind)
    rows = own_rows(base, classes)
    rows = [{**row, "label": "no" if row["label"] == classes[0] else "yes"} for row in rows]
    ended, run = simulate(tmp_path, base, rows, "base.head=new", "train.lr=1e-3")
    assert ended.status == 0, ended.err
    assert records(run)[0]["test_loss"] == pytest.approx(0.6931, abs=1e-3)  # of a head at zero
    kinds = {name: module.get("kind") for name, module in read_toml(run / "base.toml")["modules"].items()}
    assert "last" in kinds.values()
    assert read_toml(run / "base.toml")["head"] == "new"
    assert call("evaluate", run).status == 0
    assert call("merge", run, tmp_path / "merged").status == 0
    merged = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert merged["id2label"] == {"0": "no", "1": "yes"}


def test_found_B8_a_base_without_a_head_is_the_same_whatever_is_asked(tmp_path):
    rows = [{"text": "a cow", "label": "no"}, {"text": "a boat", "label": "yes"}] * 40
    runs = {}
    for head in ("keep", "new", "listed"):
        (tmp_path / head).mkdir()
        ended, run = simulate(tmp_path / head, tiny_base("bert"), rows, f"base.head={head}")
        assert ended.status == 0
        runs[head] = read_toml(run / "base.toml")["fingerprint"]
    assert len({*runs.values()}) == 1


def test_found_B8_nodes_of_other_heads_have_other_fingerprints(tmp_path):
    base = with_own_head(tmp_path / "base", ("b", "a"))
    rows, found = own_rows(base, ("b", "a")), {}
    for head in ("keep", "new", "listed"):
        (tmp_path / head).mkdir()
        # all-linear, so that the head is a target in any case
        run = simulate(tmp_path / head, base, rows, f"base.head={head}", "lora.targets=all-linear")[1]
        found[head] = read_toml(run / "base.toml")["fingerprint"]
    assert len({*found.values()}) == 3


def test_found_B8_a_run_of_an_earlier_release_keeps_the_order_that_it_began_with(tmp_path):
    base = with_own_head(tmp_path / "base", ("b", "a"))
    rows = own_rows(base, ("b", "a"))
    recipe = write_recipe(tmp_path, write_rows(tmp_path / "rows.jsonl", rows), text="text", label="label")
    words = settings(*SHORT, f"base.path={base}", "clients.partition=iid", "base.head=listed")
    assert call("simulate", recipe, "--out", tmp_path, "--name", "run", *words).status == 0
    run = tmp_path / "run"
    for file in (run / "config.toml", run / "test.toml"):  # as an earlier release wrote them
        file.write_text(re.sub(r"(?m)^head = \"listed\"\n", "", file.read_text()))
    before = call("evaluate", run)
    ended = call("simulate", recipe, "--resume", run, *words[:-2])
    assert ended.status == 0, ended.err
    assert read_toml(run / "test.toml")["labels"] == ["a", "b"]
    assert call("evaluate", run).out == before.out


def test_found_B8_a_node_reads_its_labels_in_the_heads_order(tmp_path):
    base = with_own_head(tmp_path / "base", ("b", "a"))
    write_rows(tmp_path / "rows.jsonl", own_rows(base, ("b", "a")))
    node = {"name": "clinic", "rank": 2, "base": str(base), "data": "rows.jsonl", "labels": ["a", "b"]}
    (tmp_path / "node.toml").write_text(tomli_w.dumps(node))
    ended = call("client", tmp_path / "node.toml", "--check", "--describe", tmp_path / "base.toml")
    assert ended.status == 0, ended.err
    assert read_toml(tmp_path / "base.toml")["labels"] == ["b", "a"]
    assert "['b', 'a']" in ended.out


def test_found_B8_what_a_node_kept_of_an_earlier_run_has_the_order_of_its_labels(tmp_path):
    base = with_own_head(tmp_path / "base", ("b", "a"))
    write_rows(tmp_path / "rows.jsonl", own_rows(base, ("b", "a")))
    node = {"name": "clinic", "rank": 2, "base": str(base), "data": "rows.jsonl", "labels": ["a", "b"]}
    (tmp_path / "node.toml").write_text(tomli_w.dumps(node))
    (tmp_path / "run.json").write_text(json.dumps({"run": "0" * 64, "name": "first"}))
    settings_then, rows = load_test_rows(tmp_path)
    assert settings_then.data.labels == rows.objective.data.labels == ("a", "b")
    assert read_node(tmp_path / "node.toml").data.labels == ("b", "a")  # control: a node of today
