"""The choice of the next token of each row, by its own settings and its own random stream."""

from collections.abc import Sequence

import torch
from torch import Tensor

from client.serving.jobs import Sampling

_COLDEST = 1e-4
"""Temperatures below are 0: the quotients of logits would leave float32."""


class Sampler:
    """The choices for one text: equal seeds and logits give equal tokens, whatever else is in the batch."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._stream = torch.Generator().manual_seed(sampling.seed)

    def choose(self, logits: Tensor) -> int:
        """Return the next token by finite logits (V,)."""
        if self._sampling.temperature < _COLDEST:
            return int(logits.argmax())
        kept = nucleus(logits.cpu(), self._sampling.temperature, self._sampling.top_p)
        return int(torch.multinomial(kept, 1, generator=self._stream))


def nucleus(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return probabilities (V,) of the fewest likeliest tokens that together reach top_p (arXiv 1904.09751, eq. 2)."""
    probabilities, order = torch.softmax((logits - logits.max()) / temperature, -1).sort(descending=True, stable=True)
    probabilities[probabilities.cumsum(-1) - probabilities >= top_p] = 0
    return torch.zeros_like(probabilities).scatter(0, order, probabilities / probabilities.sum())


def choose_each(logits: Tensor, samplers: Sequence[Sampler]) -> list[int | None]:
    """Return the next token of each of n rows by logits (n, V); None for a row whose logits are not finite."""
    finite = torch.isfinite(logits).all(-1).tolist()
    return [sampler.choose(row) if ok else None for row, sampler, ok in zip(logits, samplers, finite, strict=True)]
