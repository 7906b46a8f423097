"""The drift gauge of real runs: the same rows and settings, dealt out at random and one class a node."""

import json

from tests.helpers.end_to_end.command import call
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.runs import records, run_tiny, toy_rows, write_recipe

COLUMNS = {name: name for name in ("prompt", "completion", "label")}
ONE_CLASS = ("clients.partition=column", "clients.column=label")
MODEL = ("base.path=tiny:llama", "lora.targets=all-linear", "clients.ranks=[8]", "clients.count=4")
STEPS = ("train.rounds=1", "train.steps=4", "train.batch=128", "train.lr=1e-2", "server.keep_updates=all")


def gauge(folder, *partition):
    """Run a round over many rows, so that little of a step is noise, and return the run and its agreement."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in toy_rows(**COLUMNS) * 4))
    recipe = write_recipe(folder, file, task="causal-lm", test_rows=0)
    run = run_tiny(folder, *MODEL, *STEPS, *partition, recipe=recipe)
    first, second = records(run)
    assert first["agreement"] is None
    return run, second["agreement"]


def test_nodes_with_all_classes_agree(tmp_path):
    run, agreement = gauge(tmp_path, "clients.partition=iid")
    assert agreement > 0.9
    assert call("verify", run).status == 0
    assert "Agreement of the clients" in read_page(run / "report.html").text


def test_nodes_with_one_class_each_do_not(tmp_path):
    assert gauge(tmp_path, *ONE_CLASS)[1] < 0.5
