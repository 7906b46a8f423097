"""Loss and accuracy of adapters on rows."""

from dataclasses import dataclass

import torch

from client.data.batches import Examples, eval_batches
from client.model.base_model import BaseModel
from client.model.lora import Lora, frozen_lane
from client.training.loss import cross_entropy, predictions
from common.adapters.adapter import Adapter


@dataclass(frozen=True)
class Score:
    """Mean loss per supervised token (row, for classification), share of right rows, and number of tokens (rows)."""

    loss: float
    accuracy: float | None
    count: int


@torch.no_grad()
def evaluate(base: BaseModel, lora: Lora, adapter: Adapter, examples: Examples, batch: int = 16) -> Score:
    """Return the loss, and for classification the accuracy, of the base model plus this adapter on all rows."""
    lora.lanes = [frozen_lane(adapter, base.device)]
    classes = base.task == "classification"
    loss, right, count = 0.0, 0, 0
    for each in eval_batches(examples, batch, pin=base.device.type == "cuda"):
        logits, targets = predictions(base, each.to(base.device))
        loss += cross_entropy(logits, targets).item()
        right += int((logits.argmax(-1) == targets).sum()) if classes else 0
        count += each.supervised
    lora.lanes = ()
    return Score(loss / count, right / count if classes else None, count)
