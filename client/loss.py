"""What a model under an adapter says of rows: its logits, and its loss where there is something to predict."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from client.data import Batch, Examples, eval_batches
from client.model import BaseModel
from client.tokens import IGNORE
from common.adapter import Adapter
from common.lora import Lora, frozen_lane


@dataclass(frozen=True)
class Score:
    """Mean loss for each supervised token (row, for classification), the share of right rows, and what was counted."""

    loss: float
    accuracy: float | None
    count: int


def forward(base: BaseModel, batch: Batch, **settings: Any) -> Tensor:
    """Logits (n, C) for classification, (n, t, V) for a causal language model; autocast where the base is half-size.

    Args:
        settings: further ones of the model's own `forward`.
    """
    dtype = base.model.dtype
    if base.task == "causal-lm":
        settings["use_cache"] = False
    with torch.autocast(base.device.type, dtype, enabled=dtype != torch.float32):
        logits: Tensor = base.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **settings).logits
    return logits


def loss_sum(base: BaseModel, batch: Batch) -> Tensor:
    """Cross-entropy in nats, summed over the batch's supervised tokens (rows, for classification)."""
    return _cross_entropy(*_predicted(base, batch))


def _predicted(base: BaseModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits and targets, (n, C) and (n,); of a language model only positions at which some row has a target."""
    if base.task == "classification":
        return forward(base, batch), batch.targets
    targets = batch.targets[:, 1:]
    places = (targets != IGNORE).any(0).nonzero().squeeze(1)
    if "logits_to_keep" in inspect.signature(base.model.forward).parameters:
        logits = forward(base, batch, logits_to_keep=places)  # V is large: most of the memory of a step is logits
    else:
        logits = forward(base, batch)[:, places]
    return logits.flatten(0, 1), targets[:, places].flatten()


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="sum", ignore_index=IGNORE)


@torch.no_grad()
def evaluate(base: BaseModel, lora: Lora, adapter: Adapter, examples: Examples, batch: int = 16) -> Score:
    """The loss, and for classification the accuracy, of the base model plus this adapter on all rows."""
    lora.lanes = [frozen_lane(adapter, base.device)]
    classes = base.task == "classification"
    loss, right, count = 0.0, 0, 0
    for each in eval_batches(examples, batch, pin=base.device.type == "cuda"):
        logits, targets = _predicted(base, each.to(base.device))
        loss += _cross_entropy(logits, targets).item()
        right += int((logits.argmax(-1) == targets).sum()) if classes else 0
        count += each.supervised
    lora.lanes = ()
    return Score(loss / count, right / count if classes else None, count)
