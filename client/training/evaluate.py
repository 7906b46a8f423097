"""Loss and score of adapters on examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import torch

from client.model.base_model import BaseModel
from client.model.lora import Lane, Lora, branches
from client.objectives.base import Objective
from client.objectives.examples import Examples, eval_batches
from client.objectives.scores import Sums
from client.reports import report_step
from client.training.adapted_model import AdaptedModel
from client.training.not_finite import not_finite
from common.adapters.adapter import Adapter


@dataclass(frozen=True)
class Score:
    """What a model gives on examples.

    Args:
        loss: its mean over the predictions.
        measures: the task's score, by its key in `common.report.records.MEASURES`; empty if the task has none.
        count: number of predictions.
        sums: that the score is of.
    """

    loss: float
    measures: Mapping[str, float | None]
    count: int
    sums: Sums | None = field(default=None, compare=False)

    @property
    def score(self) -> float | None:
        """The task's score; None if it has none, or it is not defined on these examples."""
        return next(iter(self.measures.values()), None)


@torch.no_grad()
def evaluate(base: BaseModel, lora: Lora, adapter: Adapter, examples: Examples, batch: int = 16) -> Score:
    """Return the loss, and the score if the task has one, of the base model plus this adapter on all examples.

    Raises:
        ModelError: the loss of a batch is not finite; names the module.
    """
    lora.lanes = [Lane(trained=branches(adapter, base.device))]
    model, objective = AdaptedModel(base, lora), examples.objective
    loss, count, sums = 0.0, 0, list[Sums]()
    for done, each in enumerate(eval_batches(examples, batch, pin=base.device.type == "cuda")):
        report_step(done + 1)
        own = each.to(base.device)
        measured = objective.measure(model, own)
        if not isfinite(summed := measured.loss.item()):
            raise not_finite(model, objective, own)
        loss += summed
        if objective.metric and measured.outputs is not None:
            sums.append(objective.metric.sums(measured.outputs, own.targets))
        count += objective.count(each)
    lora.lanes = ()
    return _score(objective, loss, count, sums)


def add_scores(objective: Objective, scores: Sequence[Score]) -> Score:
    """Return the score on all examples of those on parts of them."""
    loss, count = sum(each.loss * each.count for each in scores), sum(each.count for each in scores)
    return _score(objective, loss, count, [each.sums for each in scores if each.sums is not None])


def _score(objective: Objective, loss: float, count: int, sums: Sequence[Sums]) -> Score:
    if not (sums and objective.metric):
        return Score(loss / count, {}, count)
    total = sum(sums[1:], sums[0])
    return Score(loss / count, {objective.metric.key: objective.metric.value(total)}, count, total)
