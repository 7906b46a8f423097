"""The loss of a model with adapters, and its logits at the positions that have a target."""

import inspect

from torch import Tensor
from torch.nn import functional as F

from client.data.batches import Batch
from client.data.tokens import IGNORE
from client.model.base_model import BaseModel
from client.model.forward import forward


def loss_sum(base: BaseModel, batch: Batch) -> Tensor:
    """Return the cross-entropy in nats, summed over the batch's supervised tokens (rows, for classification)."""
    return cross_entropy(*predictions(base, batch))


def predictions(base: BaseModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (n, C) and targets (n,); for a language model only at positions where some row has a target."""
    if base.task == "classification":
        return forward(base, batch), batch.targets
    targets = batch.targets[:, 1:]
    places = (targets != IGNORE).any(0).nonzero().squeeze(1)
    if "logits_to_keep" in inspect.signature(base.model.forward).parameters:
        logits = forward(base, batch, logits_to_keep=places)  # V is large: most of the memory of a step is logits
    else:
        logits = forward(base, batch)[:, places]
    return logits.flatten(0, 1), targets[:, places].flatten()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum in nats of (n, C) logits over the targets (n,) that count, in float32."""
    return F.cross_entropy(logits.float(), targets, reduction="sum", ignore_index=IGNORE)
