"""A trained update on held-out rows: which predictions it gets right, and its mean loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from client.data.batches import Batch
from client.data.tokens import IGNORE
from client.model.lora import Lane, branches
from client.node import LocalNode, attach_lora
from client.objectives.causal_lm import next_tokens
from client.objectives.examples import Examples, eval_batches
from client.training.adapted_model import AdaptedModel
from common.adapters.adapter import Adapter

BATCH = 32


@dataclass(frozen=True)
class Score:
    """The mean loss in nats, and a bit a prediction: right or wrong, in an order that only the rows decide."""

    loss: float
    right: str

    @property
    def accuracy(self) -> float:
        """Return the share of right predictions."""
        return self.right.count("1") / len(self.right)


def score(node: LocalNode, adapter: Adapter, rows: Examples) -> Score:
    """Return what the base of this node with the adapter makes of rows."""
    base, lora = attach_lora(node.base, tuple(adapter))
    lora.lanes = [Lane(trained=branches(adapter, base.device))]
    try:
        return score_model(AdaptedModel(base, lora), rows)
    finally:
        lora.lanes = ()


@torch.no_grad()
def score_model(model: AdaptedModel, rows: Examples) -> Score:
    """Return what a model makes of rows: their classes, or the tokens of answers."""
    loss, right = 0.0, list[str]()
    for batch in eval_batches(rows, BATCH):
        logits, targets = _predictions(model, batch.to(model.base.device))
        loss += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        right += ["01"[bit] for bit in (logits.argmax(-1) == targets).tolist()]
    return Score(loss / len(right), "".join(right))


def _predictions(model: AdaptedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (p, C) and targets (p,)."""
    if batch.targets.ndim == 1:
        return model(batch).float(), batch.targets
    places, targets = next_tokens(batch)
    learned = targets != IGNORE
    return model(batch, places)[learned].float(), targets[learned]
