"""Encoded examples of a node's rows with their objective, and seeded batches of examples of similar length.

Every random stream is keyed by the node's name (and, for training, the seed and the round), so a resumed run sees the
same batches, regardless of the order in which nodes start.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from client.data.batch_order import Indices, batches_by_length, bucketed_epochs, epoch_rows
from client.data.batches import Batch
from client.data.packed import PackedRows
from client.data.rows import Chunk, Row, in_chunks
from client.data.tokens import padding_id
from client.objectives import create_objective
from client.objectives.base import Encoded, Objective
from client.objectives.encoding import NOTHING, Findings, encode_chunks
from common.errors import DataError
from common.protocol.assignment import Assignment, Training
from common.seeding import rng
from common.settings.evaluation import held_out_count
from common.settings.node import NodeData


@dataclass(frozen=True, eq=False)
class Examples(Dataset[Encoded]):
    """Encoded rows of one node, and their objective.

    Args:
        rows: packed, or any sequence.
        objective: of their task.
        pad_id: pads the shorter rows of a batch.
        found: what was found in the files that the rows, and the other part of a split, are from.
    """

    rows: Sequence[Encoded]
    objective: Objective
    pad_id: int
    found: Findings = NOTHING

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Encoded:
        return self.rows[index]

    @property
    def truncated(self) -> int:
        """Number of examples that were cut at `max_length`."""
        rows = self.rows
        return rows.truncated if isinstance(rows, PackedRows) else sum(row.cut > 0 for row in rows)

    @property
    def lengths(self) -> Indices:
        """Tokens of each example (n,)."""
        rows = self.rows
        return rows.lengths if isinstance(rows, PackedRows) else np.array([len(row) for row in rows], np.intp)

    @property
    def whole_lengths(self) -> Indices:
        """Tokens of each example before it was cut (n,)."""
        rows = self.rows
        if isinstance(rows, PackedRows):
            return rows.whole_lengths
        return np.array([len(row) + row.cut for row in rows], np.intp)


def encode_rows(rows: Sequence[Row], data: NodeData, tokenizer: PreTrainedTokenizerBase, file: Path) -> Examples:
    """Turn the rows of `file` into examples for the task of the data; raise as `encode_pieces` does."""
    return encode_pieces(in_chunks(rows, file), data, tokenizer, file)


def encode_pieces(chunks: Iterable[Chunk], data: NodeData, tokenizer: PreTrainedTokenizerBase, file: Path) -> Examples:
    """Turn rows, piece by piece, into examples for the task of the data.

    Raises:
        DataError: a row cannot be used and none is to be skipped; or as `Objective.encode`.
    """
    objective = create_objective(data)
    rows, found = encode_chunks(chunks, objective, tokenizer, file)
    return Examples(rows, objective, padding_id(tokenizer), found)


def split_held_out(examples: Examples, name: str) -> tuple[Examples, Examples]:
    """Split the rows into (train, held) by the node's name alone.

    Raises:
        DataError: there are fewer than two rows.
    """
    count = len(examples)
    if count < 2:
        raise DataError(
            f"node {name} has {count} row of data, but needs 2: one to train on, one to evaluate on; add rows"
        )
    train, held = held_places(count, name)
    return subset(examples, train), subset(examples, held)


def held_places(count: int, name: str) -> tuple[Indices, Indices]:
    """Return which of a node's rows, in no order, it trains on, and which it holds out."""
    held = held_out_count(count)
    order = rng("hold out", name).permutation(count)
    return order[held:], order[:held]


def batches(
    examples: Examples, batch: int, count: int, key: tuple[int | str, ...], pin: bool = False
) -> Iterator[Batch]:
    """Yield exactly `count` batches of at most `batch` rows, keyed by `Training.stream_key`.

    Each epoch has every row once.

    Args:
        pin: put them in page-locked memory, for a CUDA device.
    """
    order = bucketed_epochs(examples.lengths, batch, rng("batches", *key))
    return chosen_batches(examples, islice(order, count), pin)


def different_rows(examples: Examples, assignment: Assignment, training: Training, name: str) -> int:
    """Return how many different rows a node of this name would read for its reply."""
    count = len(examples)
    if assignment.returns == "compressed-gradient":
        if training.rows >= 2 * count:  # a whole epoch, wherever it begins
            return count
        return len(np.unique(epoch_rows(count, training.begin, training.rows, (training.seed, name))))
    order = bucketed_epochs(examples.lengths, training.batch, rng("batches", *training.stream_key(name)))
    passes = len(training.learning_rates) * training.accumulate
    return min(sum(map(len, islice(order, min(passes, count)))), count)  # A first epoch has each row once.


def eval_batches(examples: Examples, batch: int, pin: bool = False) -> Iterator[Batch]:
    """Yield every row once, shortest first, in batches of at most `batch` rows."""
    return chosen_batches(examples, batches_by_length(np.arange(len(examples)), examples.lengths, batch), pin)


def count_predictions(examples: Examples) -> int:
    """Return the number of predictions of all rows that carry loss."""
    return sum(map(examples.objective.count, eval_batches(examples, 64)))


def chosen_batches(examples: Examples, order: Iterable[Indices], pin: bool) -> Iterator[Batch]:
    """Yield a batch of the rows at each of these indices."""
    # A separate generator: DataLoader would otherwise draw from torch's global stream, which dropout uses.
    return iter(
        DataLoader(
            examples,
            batch_sampler=[rows.tolist() for rows in order],
            collate_fn=partial(examples.objective.collate, pad_id=examples.pad_id),
            pin_memory=pin,
            generator=torch.Generator(),
        )
    )


def subset(examples: Examples, indices: Iterable[int]) -> Examples:
    """Return the examples at these positions, in their original order; packed ones share their arrays."""
    places, rows = sorted(indices), examples.rows
    if isinstance(rows, PackedRows):
        return replace(examples, rows=rows.chosen(np.array(places, np.intp)))
    return replace(examples, rows=tuple(rows[index] for index in places))
