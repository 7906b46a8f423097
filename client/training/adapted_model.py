"""The frozen base with adapters attached, as a training objective calls it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from client.data.batches import Batch
from client.model.base_model import BaseModel
from client.model.forward import forward
from client.model.lora import Lane, Lora


@dataclass(frozen=True, eq=False)
class AdaptedModel:
    """A base model under the lanes that are set in `lora` at the time of a call.

    In training, a lane's trained branches are the increment and its frozen ones are what the round started from; in
    evaluation, the trained branches are the adapter that is evaluated, and there are no others.
    """

    base: BaseModel
    lora: Lora

    def __call__(self, batch: Batch, places: Tensor | None = None) -> Tensor:
        """Return logits as `forward` does."""
        return forward(self.base, batch, places)

    @torch.no_grad()
    def reference(self, batch: Batch, places: Tensor | None = None) -> Tensor:
        """Return the logits of the same lanes without their trained branches and dropout, and without gradients."""
        lanes = self.lora.lanes
        self.lora.lanes = [Lane(frozen=lane.frozen) for lane in lanes]
        try:
            return self(batch, places)
        finally:
            self.lora.lanes = lanes  # Checkpointing computes activations again, in the backward pass.
