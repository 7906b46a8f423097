"""The passes over the rows of an exchange of gradients: sums of gradients and losses, nothing is trained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from client.data.batch_order import Indices, batches_by_length, epoch_rows
from client.data.batches import Batch
from client.model.base_model import BaseModel
from client.model.lora import Branch, Lane, Lora, frozen_lane
from client.objectives.examples import Examples, chosen_batches
from client.training.adapted_model import AdaptedModel
from client.training.checkpointing import checkpoint_activations
from client.training.not_finite import not_finite
from client.training.progress import Watch, ignore
from client.training.train import pass_dropout, trainable
from common.adapters.adapter import Array
from common.adapters.gradient import gradient_of
from common.protocol.assignment import Assignment, Training

LEAST_SCALE = 2.0**-10
"""Loss scale of float16 below which a gradient that is not finite is no overflow of the scaled loss."""


@dataclass(frozen=True)
class Sums:
    """Sums over rows.

    Args:
        gradients: of each trained factor.
        loss: in nats.
        count: predictions that carry loss.
    """

    gradients: list[Tensor]
    loss: float = 0.0
    count: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        gradients = [one + two for one, two in zip(self.gradients, other.gradients, strict=True)]
        return Sums(gradients, self.loss + other.loss, self.count + other.count)


class Passes:
    """Forward and backward passes of one exchange; `scale` is the loss scale, which overflows of float16 halve.

    `key` is that of the node's random streams in this exchange.

    Args:
        base: the frozen model.
        lora: adapters attached to `base`; its lanes are overwritten.
        assignment: the shared factors.
        name: of the node; it keys the order of its rows and the dropout masks.
        examples: of the node, with their objective.
        training: rows of the exchange, and where they begin.
        scale: loss scale that float16 begins with.
        watch: called as each step's share of the rows is done.
    """

    def __init__(
        self,
        base: BaseModel,
        lora: Lora,
        assignment: Assignment,
        name: str,
        examples: Examples,
        training: Training,
        scale: float,
        watch: Watch = ignore,
    ) -> None:
        self.assignment, self.key = assignment, training.stream_key(name)
        self._trained = trainable(assignment, base.device)
        self._frozen = frozen_lane(assignment.frozen, base.device).frozen
        self._parameters = [p for each in self._trained.values() for p in (each.a, each.b) if p.requires_grad]
        self._model, self._examples, self._training = AdaptedModel(base, lora), examples, training
        self._name, self._watch, self._rows_done, self._steps_told = name, watch, 0, 0
        self._is_half_precision = base.model.dtype == torch.float16
        self.scale = scale if self._is_half_precision else 1.0
        self._rows = epoch_rows(len(examples), training.begin, training.rows, (training.seed, name))

    @property
    def rows(self) -> int:
        """Number of rows of the exchange, with repetition."""
        return len(self._rows)

    def halves(self) -> tuple[Sums, Sums]:
        """Return the sums over two random halves of the rows."""
        with checkpoint_activations(self._model.base.model, self._training.checkpointing):
            return self._half(0), self._half(1)

    def _half(self, number: int) -> Sums:
        # Every other row is a random half, as the order of an epoch is random.
        sums, device = Sums([torch.zeros_like(p) for p in self._parameters]), self._model.base.device
        for part, batch in enumerate(self._batches(self._rows[number::2])):
            dropout = pass_dropout(self._training, self._name, number, part)
            self._model.lora.lanes = [Lane(self._trained, self._frozen, dropout)]
            sums += self._pass(batch.to(device))
            self._report(len(batch), sums)
        self._model.lora.lanes = ()
        return sums

    def as_matrices(self, sums: Sums) -> Mapping[str, Array]:
        """Return the gradients of the mean loss by A and by s B, each (n, R), as `a/NAME` and `b/NAME`."""
        held = {id(p): gradient for p, gradient in zip(self._parameters, sums.gradients, strict=True)}
        count = max(sums.count, 1)
        return {
            f"{side}/{name}": gradient_of(side, (held[id(factor)] / (count * scaling)).cpu().numpy())
            for name, each in self._trained.items()
            for side, factor, scaling in _sides(each)
            if factor.requires_grad and factor.numel()
        }

    def _batches(self, rows: Indices) -> Iterator[Batch]:
        order = batches_by_length(rows, self._examples.lengths, self._training.batch) if len(rows) else []
        return chosen_batches(self._examples, order, pin=self._model.base.device.type == "cuda")

    def _pass(self, batch: Batch) -> Sums:
        """Return the sums of a batch; in float16, from another pass at half the scale where they overflow.

        Raises:
            ModelError: its loss is not finite; names the module.
        """
        count = self._examples.objective.count(batch)
        while True:
            mean = self._examples.objective.measure(self._model, batch).loss / max(count, 1)
            if not isfinite(mean.item()):
                raise not_finite(self._model, self._examples.objective, batch)
            found = torch.autograd.grad(mean * self.scale, self._parameters, allow_unused=True)
            pairs = zip(self._parameters, found, strict=True)
            gradients = [torch.zeros_like(p) if g is None else g * (count / self.scale) for p, g in pairs]
            if not self._overflows(gradients):
                return Sums(gradients, count * mean.item(), count)
            self.scale /= 2

    def _overflows(self, gradients: list[Tensor]) -> bool:
        if not self._is_half_precision or self.scale <= LEAST_SCALE:
            return False
        return not all(bool(torch.isfinite(gradient).all()) for gradient in gradients)

    def _report(self, rows: int, sums: Sums) -> None:
        """Report each step whose share of the rows is done."""
        self._rows_done += rows
        done = len(self._training.learning_rates) * self._rows_done // self._training.rows
        for step in range(self._steps_told, done):
            self._watch(step, torch.tensor(sums.loss / max(sums.count, 1)))
        self._steps_told = done


def _sides(branch: Branch) -> tuple[tuple[str, Tensor, float], ...]:
    """Return side, factor and what its gradient is divided by: the B on the way holds the scale."""
    return ("a", branch.a, 1.0), ("b", branch.b, branch.scaling)
