"""A node's announcement: what it trains and holds, sent before it takes part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from common.adapters.adapter import Shapes
from common.huggingface.new_head import HeadModule
from common.settings.tasks import TASKS

MAX_DIMENSION = 2**22
"""Largest number of rows or columns of a module; the largest vocabularies have a quarter of it."""


@dataclass(frozen=True)
class Announcement:
    """A node and what it can train.

    Args:
        name: the node's own name, which keys its random streams.
        rank: the rank it trains.
        rows: number of rows of its data.
        fingerprint: of its base model, tokenizer, targets and task.
        shapes: (d, k) of its target modules.
        head: target modules that the base checkpoint lacked.
        embeddings: target modules that are embeddings, which PEFT stores in its own way.
        task: what its rows are for.
    """

    name: str
    rank: int
    rows: int
    fingerprint: str
    shapes: Shapes
    head: tuple[HeadModule, ...]
    embeddings: tuple[str, ...]
    task: str

    @property
    def model(self) -> tuple[object, ...]:
        """The part that is the same for all nodes of a run."""
        return self.fingerprint, tuple(sorted(self.shapes.items())), self.head, self.embeddings, self.task

    def to_values(self) -> dict[str, Any]:
        """Return plain values for a message."""
        return {
            "name": self.name,
            "rank": self.rank,
            "rows": self.rows,
            "fingerprint": self.fingerprint,
            "modules": list(self.shapes),
            "d": [d for d, _ in self.shapes.values()],
            "k": [k for _, k in self.shapes.values()],
            "head": [module.name for module in self.head],
            "head_last": [module.last for module in self.head],
            "head_bias": [module.bias for module in self.head],
            "embeddings": list(self.embeddings),
            "task": self.task,
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_values`.

        Raises:
            KeyError, TypeError, ValueError: a value is missing or of another kind.
        """
        shapes = dict(zip(values["modules"], zip(values["d"], values["k"], strict=True), strict=True))
        head = zip(values["head"], values["head_last"], values["head_bias"], strict=True)
        if not shapes or not all(type(n) is int and 0 < n <= MAX_DIMENSION for shape in shapes.values() for n in shape):
            raise ValueError("a shape is not two positive integers of a model's size")
        if type(values["rank"]) is not int or values["rank"] < 1:
            raise ValueError("rank is not a positive integer")
        modules = tuple(HeadModule(*module) for module in head)
        name, fingerprint = str(values["name"]), str(values["fingerprint"])
        embeddings = tuple(map(str, values["embeddings"]))
        if values["task"] not in TASKS:
            raise ValueError("task is not a known one")
        rows, task = int(values["rows"]), values["task"]
        return cls(name, values["rank"], rows, fingerprint, shapes, modules, embeddings, task)
