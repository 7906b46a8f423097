"""The mean gradient of several steps that are not made, in place of trained factors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from client.model.lora import Branch


class MeanGradient:
    """Adds up the unscaled gradients of steps; in float16, one that overflowed is left out, as the optimizer would."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._count = 0

    def add(self, scaler: torch.amp.GradScaler, parameters: Sequence[Tensor]) -> None:
        """Add the gradients of one step, and clear them."""
        found = {id(p): p.grad for p in parameters if p.grad is not None}
        if not scaler.is_enabled() or all(bool(torch.isfinite(gradient).all()) for gradient in found.values()):
            self._sums |= {key: self._sums.get(key, 0.0) + gradient for key, gradient in found.items()}
            self._count += 1
        scaler.update()
        for parameter in parameters:
            parameter.grad = None

    def as_factors(self, trained: Mapping[str, Branch]) -> dict[str, Branch]:
        """Return the mean by A and by s B, in place of the factors that are trained; NaN if no step counts."""
        return {
            name: Branch(self._mean(each.a), self._mean(each.b), 1 / each.scaling) for name, each in trained.items()
        }

    def _mean(self, factor: Tensor) -> Tensor:
        if not factor.requires_grad:
            return factor
        if not self._count:
            return torch.full_like(factor, torch.nan)
        return self._sums[id(factor)] / self._count if id(factor) in self._sums else torch.zeros_like(factor)
