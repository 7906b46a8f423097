"""Tokenised examples of a node's rows, and seeded batches of rows of similar length.

Every random stream is keyed by the node's name (and, for training, the seed and the round), so a resumed run sees the
same batches, regardless of the order in which nodes start.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from client.data.batch_order import Indices, batches_by_length, bucketed_epochs
from client.data.rows import Row
from client.data.tokens import IGNORE, Example, encode_rows, padding_id
from common.errors import DataError
from common.seeding import rng
from common.settings.node import Node
from common.settings.types import Task


@dataclass(frozen=True, eq=False)
class Examples(Dataset[Example]):
    """Tokenised rows of one node; `pad_id` pads the shorter rows of a batch."""

    rows: tuple[Example, ...]
    task: Task
    pad_id: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return self.rows[index]

    @property
    def truncated(self) -> int:
        """Number of rows that were cut at `max_length`."""
        return sum(row.cut for row in self.rows)

    @property
    def lengths(self) -> Indices:
        """Tokens of each row (n,)."""
        return np.array([len(row.ids) for row in self.rows], np.intp)


@dataclass(frozen=True, eq=False)
class Batch:
    """n rows, padded on the right to t tokens.

    Args:
        input_ids: (n, t).
        attention_mask: (n, t), 1 on a row's own tokens, 0 on padding.
        targets: a label's number (n,), or (n, t) with IGNORE on tokens without loss; not shifted.
    """

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def supervised(self) -> int:
        """Number of predictions that carry loss: rows, or tokens after the first of a row."""
        return len(self.targets) if self.targets.ndim == 1 else int((self.targets[:, 1:] != IGNORE).sum())

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on that device; if it is pinned, the copy overlaps computation."""
        return self._map(partial(Tensor.to, device=device, non_blocking=self.input_ids.is_pinned()))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; DataLoader calls it by this name."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(move(self.input_ids), move(self.attention_mask), move(self.targets))


def tokenize(rows: Sequence[Row], node: Node, tokenizer: PreTrainedTokenizerBase, file: Path) -> Examples:
    """Turn the rows of `file` into examples for the node's task.

    Raises:
        DataError: columns are missing, or rows cannot be used.
        ConfigError: the node names no labels, or its max_length has no room for text.
    """
    return Examples(encode_rows(rows, node, tokenizer, file), node.task, padding_id(tokenizer))


def split_held_out(examples: Examples, name: str, share: float = 0.1, cap: int = 64) -> tuple[Examples, Examples]:
    """Split the rows into (train, held) by the node's name alone; `held` gets at least one row, and at most `cap`.

    Raises:
        DataError: there are fewer than two rows.
    """
    count = len(examples)
    if count < 2:
        raise DataError(
            f"node {name} has {count} row of data, but needs 2: one to train on, one to evaluate on; add rows"
        )
    held = min(max(1, round(share * count)), cap, count - 1)
    order = rng("hold out", name).permutation(count)
    return subset(examples, order[held:]), subset(examples, order[:held])


def batches(
    examples: Examples, batch: int, count: int, key: tuple[int | str, ...], pin: bool = False
) -> Iterator[Batch]:
    """Yield exactly `count` batches of at most `batch` rows, keyed by `Training.stream_key`.

    Each epoch has every row once.

    Args:
        pin: put them in page-locked memory, for a CUDA device.
    """
    order = bucketed_epochs(examples.lengths, batch, rng("batches", *key))
    return _load(examples, islice(order, count), pin)


def eval_batches(examples: Examples, batch: int, pin: bool = False) -> Iterator[Batch]:
    """Yield every row once, shortest first, in batches of at most `batch` rows."""
    return _load(examples, batches_by_length(np.arange(len(examples)), examples.lengths, batch), pin)


def _load(examples: Examples, order: Iterable[Indices], pin: bool) -> Iterator[Batch]:
    # A separate generator: DataLoader would otherwise draw from torch's global stream, which dropout uses.
    return iter(
        DataLoader(
            examples,
            batch_sampler=[rows.tolist() for rows in order],
            collate_fn=partial(_collate, examples),
            pin_memory=pin,
            generator=torch.Generator(),
        )
    )


def _collate(examples: Examples, rows: list[Example]) -> Batch:
    ids = [torch.tensor(row.ids, dtype=torch.int64) for row in rows]
    targets = [torch.tensor(row.targets, dtype=torch.int64) for row in rows]
    return Batch(
        input_ids=_pad(ids, examples.pad_id),
        attention_mask=_pad([torch.ones_like(row) for row in ids], 0),
        targets=torch.stack(targets) if examples.task == "classification" else _pad(targets, IGNORE),
    )


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def subset(examples: Examples, indices: Iterable[int]) -> Examples:
    """Return the examples at these positions, in their original order."""
    return replace(examples, rows=tuple(examples.rows[index] for index in sorted(indices)))
