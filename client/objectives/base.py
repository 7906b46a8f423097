"""A training objective: everything that depends on the task, from rows to loss, as one object.

The objective of a task sees the model only through `Model`, so it knows neither adapters nor devices.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from client.data.batches import Batch
from client.data.rows import Row
from client.objectives.scores import Metric
from common.settings.node import NodeData


class Encoded(Protocol):
    """An encoded example; its length is that of its longest row, in tokens."""

    @property
    def cut(self) -> int:
        """Number of tokens by which it was longer than `max_length`."""

    def __len__(self) -> int: ...


class Model(Protocol):
    """The frozen base with adapters, as an objective calls it.

    For r rows, both calls return logits (r, C) of a classifier, (r, t, V) of a language model; the latter only at the
    p positions that are given as `places` (p,), if they are.
    """

    def __call__(self, batch: Batch, places: Tensor | None = None) -> Tensor:
        """Return logits with the increment in training, with gradients."""

    def reference(self, batch: Batch, places: Tensor | None = None) -> Tensor:
        """Return logits of the model that training started from, without gradients."""


@dataclass(frozen=True)
class Measured:
    """A batch's summed loss, a scalar, and the outputs that the task's score is of, if it has one."""

    loss: Tensor
    outputs: Tensor | None = None


@dataclass(frozen=True)
class Objective(ABC):
    """The objective of a task; `data` has the columns, labels and further settings of a node's rows.

    `metric` is the task's score, if it has one.
    """

    metric: ClassVar[Metric | None] = None

    data: NodeData

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[Encoded, ...]:
        """Encode the rows of this file as examples.

        Raises:
            DataError: the file lacks the columns, the tokenizer a chat template, or rows cannot be used.
            ConfigError: the node names no labels, or its max_length has no room for text.
        """

    def notes(self, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """Return what the owner of rows with these columns is told of those that are not read."""
        return ()

    def label_texts(self, fields: Mapping[str, Any]) -> Iterable[str]:
        """Return the labels of a row that are texts, to find those that look alike."""
        return ()

    @abstractmethod
    def collate(self, examples: Sequence[Any], pad_id: int) -> Batch:
        """Make a batch of encoded examples; `pad_id` is on the padding."""

    @abstractmethod
    def count(self, batch: Batch) -> int:
        """Return the number of predictions that carry loss: the mean loss is over these."""

    @abstractmethod
    def measure(self, model: Model, batch: Batch) -> Measured:
        """Return the batch's loss, summed over the predictions that carry loss, and what its score is of."""
