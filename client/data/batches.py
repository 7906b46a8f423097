"""Batches: tokenised rows, padded to one length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from client.data.tokens import Ids


@dataclass(frozen=True, eq=False)
class Batch:
    """n examples, padded on the right to t tokens; an example may be several rows, as in (n, 2, t).

    Args:
        input_ids: (n, t).
        attention_mask: (n, t), 1 on a row's own tokens, 0 on padding.
        targets: a label's number (n,), float32 (n, C) of sets of labels or of numbers, or (n, t) with IGNORE on tokens
            without loss; not shifted.
    """

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on that device; if it is pinned, the copy overlaps computation."""
        return self._map(partial(Tensor.to, device=device, non_blocking=self.input_ids.is_pinned()))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; DataLoader calls it by this name."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(move(self.input_ids), move(self.attention_mask), move(self.targets))


def pad(rows: Sequence[Ids], value: int) -> Tensor:
    """Return int64 (n, t) of n rows, with the value after the end of the shorter ones."""
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True, padding_value=value)
