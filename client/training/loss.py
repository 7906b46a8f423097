"""The loss of a model under an adapter, and the logits where there is something to predict."""

import inspect

from torch import Tensor
from torch.nn import functional as F

from client.data.batches import Batch
from client.data.tokens import IGNORE
from client.model.base_model import BaseModel
from client.model.forward import forward


def loss_sum(base: BaseModel, batch: Batch) -> Tensor:
    """Cross-entropy in nats, summed over the batch's supervised tokens (rows, for classification)."""
    return cross_entropy(*predictions(base, batch))


def predictions(base: BaseModel, batch: Batch) -> tuple[Tensor, Tensor]:
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


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum in nats of (n, C) logits over the targets (n,) that count, in float32."""
    return F.cross_entropy(logits.float(), targets, reduction="sum", ignore_index=IGNORE)
