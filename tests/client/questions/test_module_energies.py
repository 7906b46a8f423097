"""Energies of modules against the whole gradient by each weight, and what they need of a new head."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.model.lora import Lane, branches
from client.node import attach_lora, describe_model, load_node
from client.objectives.examples import batches
from client.questions import module_energies as tested
from client.questions.module_energies import base_parameters, module_energies
from client.training.adapted_model import AdaptedModel
from common.adapters.adapter import zeros
from common.planning.requests import BATCHES, planning_batches
from common.protocol.assignment import Training
from tests.helpers.client.nodes import write_node
from tests.helpers.common.models import random_adapter

KINDS = ["bert", "roberta", "gpt2", "llama"]
LM = {"task": "causal-lm", "label": None}
TRAINING = planning_batches(Training((0.1,), batch=4, seed=3), 0.05)


class Case:
    """A node on a tiny base, and an update of all its linear layers at which the run begins."""

    def __init__(self, folder, kind, **settings):
        self.node = load_node(write_node(folder, kind, rows=60, **settings))
        shapes = describe_model(self.node.settings, "all-linear").shapes
        self.update = random_adapter(shapes, (2,), 1)
        self.base, self.lora = attach_lora(self.node.base, tuple(shapes))

    def energies(self, update=None, training=TRAINING):
        update = self.update if update is None else update
        return module_energies(self.base, self.lora, update, self.node.train, "clinic", training)

    def whole(self, names):
        """||G||^2 of the mean gradient by each weight, with the weights' own gradients."""
        weights = {name: self.base.model.get_submodule(name).weight for name in names}
        for weight in weights.values():
            weight.requires_grad_(True)
        self.lora.lanes = [Lane(frozen=branches(self.update))]
        model, objective, found = AdaptedModel(self.base, self.lora), self.node.train.objective, {}
        for batch in batches(self.node.train, TRAINING.batch, BATCHES, TRAINING.stream_key("clinic")):
            loss = objective.measure(model, batch).loss / objective.count(batch)
            for name, gradient in zip(names, torch.autograd.grad(loss, weights.values()), strict=True):
                found[name] = found.get(name, 0.0) + gradient / BATCHES
        for weight in weights.values():
            weight.requires_grad_(False)
        self.lora.lanes = ()
        return {name: float((gradient**2).sum()) for name, gradient in found.items()}


@pytest.mark.parametrize(("kind", "task"), [("bert", {}), ("gpt2", {}), ("gpt2", LM), ("llama", LM)])
def test_the_mean_over_random_rows_is_the_energy_of_the_whole_gradient(tmp_path, kind, task, monkeypatch):
    case = Case(tmp_path, kind, **task)
    monkeypatch.setattr(tested, "_with_head", lambda base, lora, update, *others: update)  # That of the update.
    monkeypatch.setattr(tested, "clip_energies", list)
    key = TRAINING.stream_key("clinic")
    monkeypatch.setattr(Training, "stream_key", lambda self, name: key)  # The same rows, and other random ones of A.
    draws = [case.energies(training=replace(TRAINING, seed=seed)) for seed in range(40)]
    exact = case.whole(draws[0])
    assert exact.keys() == case.lora.shapes.keys() - {head.name for head in case.base.head}
    for name, energy in exact.items():
        found = np.array([draw[name] for draw in draws])
        assert abs(found.mean() - energy) <= 4.5 * found.std() / np.sqrt(len(found)) + 1e-6 * energy


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta"])
def test_a_new_head_is_trained_before_and_forgotten(tmp_path, kind, monkeypatch):
    case = Case(tmp_path, kind)
    nothing = zeros(case.update.shapes)
    before = [each.clone() for each in case.base.model.parameters()]
    found = case.energies(nothing)
    assert min(found.values()) >= 0 < sum(found.values())
    assert found == case.energies(nothing)
    assert all(torch.equal(one, other) for one, other in zip(before, case.base.model.parameters(), strict=True))
    monkeypatch.setattr(tested, "_with_head", lambda base, lora, update, *others: update)  # The control.
    assert sum(case.energies(nothing).values()) == 0


def test_the_sum_is_clipped_and_the_order_is_that_of_names(tmp_path):
    found = Case(tmp_path, "gpt2", task="causal-lm", labels=None).energies()
    assert list(found) == sorted(found)
    assert sum(found.values()) <= 1.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_parameters_of_the_base_are_counted_without_a_new_head(tmp_path, kind):
    base = Case(tmp_path, kind).node.base
    new = {id(p) for head in base.head for p in base.model.get_submodule(head.name).parameters()}
    assert new
    assert base_parameters(base) == sum(p.numel() for p in base.model.parameters() if id(p) not in new)
