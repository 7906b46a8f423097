"""A trained update on held-out rows: which of them it gets right, and its mean loss."""

from dataclasses import dataclass

import torch

from client.model.lora import Lane, branches
from client.node import LocalNode, attach_lora
from client.objectives.examples import Examples, eval_batches
from client.training.adapted_model import AdaptedModel
from common.adapters.adapter import Adapter

BATCH = 32


@dataclass(frozen=True)
class Score:
    """The mean loss in nats, and a bit a row: right or wrong, in an order that only the rows decide."""

    loss: float
    right: str

    @property
    def accuracy(self) -> float:
        """Return the share of right rows."""
        return self.right.count("1") / len(self.right)


@torch.no_grad()
def score(node: LocalNode, adapter: Adapter, rows: Examples) -> Score:
    """Return what the base of this node with the adapter makes of classified rows."""
    base, lora = attach_lora(node.base, tuple(adapter))
    lora.lanes = [Lane(trained=branches(adapter, base.device))]
    model, loss, right = AdaptedModel(base, lora), 0.0, list[str]()
    for batch in eval_batches(rows, BATCH):
        on_device = batch.to(base.device)
        logits = model(on_device).float()
        loss += torch.nn.functional.cross_entropy(logits, on_device.targets, reduction="sum").item()
        right += ["01"[bit] for bit in (logits.argmax(-1) == on_device.targets).tolist()]
    lora.lanes = ()
    return Score(loss / len(rows), "".join(right))
