"""The drift gauge of real runs: the same rows and settings, dealt out at random and one class a node."""

import json

import pytest

from tests.helpers.end_to_end.command import call
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.runs import records, run_tiny, toy_rows, write_recipe

COLUMNS = {name: name for name in ("prompt", "completion", "label")}
ONE_CLASS = ("clients.partition=column", "clients.column=label")
MODEL = ("base.path=tiny:llama", "lora.targets=all-linear", "clients.ranks=[8]", "clients.count=4")
ROUND = ("train.rounds=1", "train.steps=4", "server.keep_updates=all")
RULES = {
    "increments": (*ROUND, "train.batch=128", "train.lr=1e-2"),
    "fedsgd": (*ROUND, "train.batch=16", "server.algorithm=fedsgd"),
}
"""Local steps over many rows, so that little of them is noise; gradients are corrected for theirs."""


def gauge(folder, *settings):
    """Run a round over many rows, and return the run and its agreement."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in toy_rows(**COLUMNS) * 4))
    recipe = write_recipe(folder, file, task="causal-lm", test_rows=0)
    run = run_tiny(folder, *MODEL, *settings, recipe=recipe)
    first, second = records(run)
    assert first["agreement"] is None
    return run, second["agreement"]


@pytest.mark.parametrize("rule", RULES)
def test_nodes_with_all_classes_agree(tmp_path, rule):
    run, agreement = gauge(tmp_path, *RULES[rule], "clients.partition=iid")
    assert agreement > 0.9
    assert call("verify", run).status == 0
    assert "Agreement of the clients" in read_page(run / "report.html").text


@pytest.mark.parametrize("rule", RULES)
def test_nodes_with_one_class_each_do_not(tmp_path, rule):
    assert gauge(tmp_path, *RULES[rule], *ONE_CLASS)[1] < 0.5
