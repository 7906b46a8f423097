"""Loss and accuracy of adapters on examples."""

from dataclasses import dataclass
from math import isfinite

import torch

from client.model.base_model import BaseModel
from client.model.lora import Lane, Lora, branches
from client.objectives.examples import Examples, eval_batches
from client.reports import report_step
from client.training.adapted_model import AdaptedModel
from client.training.not_finite import not_finite
from common.adapters.adapter import Adapter


@dataclass(frozen=True)
class Score:
    """Mean loss and share of right predictions (None if the task has none), and the number of predictions."""

    loss: float
    accuracy: float | None
    count: int


@torch.no_grad()
def evaluate(base: BaseModel, lora: Lora, adapter: Adapter, examples: Examples, batch: int = 16) -> Score:
    """Return the loss, and the accuracy if the task has one, of the base model plus this adapter on all examples.

    Raises:
        ModelError: the loss of a batch is not finite; names the module.
    """
    lora.lanes = [Lane(trained=branches(adapter, base.device))]
    model, objective = AdaptedModel(base, lora), examples.objective
    loss, count, right = 0.0, 0, list[float]()
    for done, each in enumerate(eval_batches(examples, batch, pin=base.device.type == "cuda")):
        report_step(done + 1)
        measured = objective.measure(model, each.to(base.device))
        if not isfinite(summed := measured.loss.item()):
            raise not_finite(model, objective, each.to(base.device))
        loss += summed
        right += [] if measured.right is None else [measured.right.item()]
        count += objective.count(each)
    lora.lanes = ()
    return Score(loss / count, sum(right) / count if right else None, count)
