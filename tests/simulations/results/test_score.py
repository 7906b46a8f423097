"""The score of an update against the objective's own measure, for classes and for tokens."""

import json

import numpy as np
import pytest
import tomli_w
import torch

from client.model.lora import Lane, branches
from client.node import attach_lora
from client.objectives.examples import eval_batches
from client.training.adapted_model import AdaptedModel
from simulations.recipe import read_recipe
from simulations.results.nodes import load_nodes
from simulations.results.rounds import train_rounds
from simulations.results.score import score

SENTENCES = "a red fox runs", "the cat sleeps all day long", "one bird", "dogs bark at the moon tonight"


TASKS = {
    "classification": ("tiny:bert", lambda number: {"text": f"{SENTENCES[number]} {number}", "label": str(number)}),
    "causal-lm": ("tiny:llama", lambda number: {"prompt": f"{number} of them:", "completion": SENTENCES[number]}),
}


def recipe(folder, task):
    """Return a recipe of two clients with sixty rows of a task."""
    base, row = TASKS[task]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row(number % 4)) + "\n" for number in range(60)))
    tables = {
        "base": {"path": base},
        "data": {"path": "rows.jsonl", "task": task, "test_rows": 20},
        "clients": {"count": 2, "partition": "iid", "ranks": [2, 4]},
        "train": {"rounds": 2, "steps": 4, "lr": 3e-2},
    }
    (folder / "recipe.toml").write_text(tomli_w.dumps(tables))
    return read_recipe(folder / "recipe.toml", [])


@pytest.mark.parametrize("task", TASKS)
def test_loss_and_right_predictions_are_those_of_the_objective(tmp_path, task):
    nodes = load_nodes(read := recipe(tmp_path, task), 5)
    adapter = train_rounds(read, nodes, tmp_path)[0].update
    node, rows = nodes.nodes["client-00"], nodes.test
    found = score(node, adapter, rows)
    base, lora = attach_lora(node.base, tuple(adapter))
    lora.lanes = [Lane(trained=branches(adapter, base.device))]
    model = AdaptedModel(base, lora)
    with torch.no_grad():
        batches = list(eval_batches(rows, 4))
        loss = sum(rows.objective.measure(model, batch).loss.item() for batch in batches)
        right = np.concatenate([whole_matches(model, batch) for batch in batches])
    lora.lanes = ()
    count = sum(map(rows.objective.count, batches))
    assert len(found.right) == len(right) == count
    assert found.loss == pytest.approx(loss / count, rel=1e-5)
    assert found.accuracy == pytest.approx(right.mean(), abs=1 / count)
    assert found.right != score(node, adapter, nodes.valid).right  # control


def whole_matches(model, batch):
    """Return which predictions are right, from the logits at all places."""
    logits = model(batch)
    if batch.targets.ndim == 1:
        return (logits.argmax(-1) == batch.targets).numpy()
    guessed, targets = logits[:, :-1].argmax(-1), batch.targets[:, 1:]
    return (guessed == targets)[targets >= 0].numpy()
