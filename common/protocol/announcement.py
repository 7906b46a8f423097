"""A node's announcement: what it trains and holds, sent once it has read its base model and rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from common.huggingface.model_description import MAX_TEXT, ModelDescription

MAX_ROWS = 10**12
"""Largest number of rows that a node may announce."""
MAX_PREDICTIONS = 10**15
"""Largest number of predictions that a node may announce."""


@dataclass(frozen=True)
class Announcement:
    """A node and what it can train.

    Args:
        name: the node's own name, which keys its random streams.
        rank: the rank it trains.
        rows: number of rows of its data.
        model: what it trains, the same for all nodes of a run.
        predictions: of these rows that carry loss: for a language model, the tokens that it learns; None from an
            earlier release, which did not announce them.
    """

    name: str
    rank: int
    rows: int
    model: ModelDescription
    predictions: int | None = None

    def to_values(self) -> dict[str, Any]:
        """Return plain values for a message."""
        own: dict[str, Any] = {"name": self.name, "rank": self.rank, "rows": self.rows}
        counted = {} if self.predictions is None else {"predictions": self.predictions}
        return own | counted | self.model.to_values()

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_values`.

        Raises:
            KeyError, TypeError, ValueError: a value is missing or of another kind.
        """
        name, rank, rows, predictions = values["name"], values["rank"], values["rows"], values.get("predictions")
        if type(name) is not str or len(name) > MAX_TEXT:
            raise ValueError("name is not a short text")
        if type(rank) is not int or rank < 1:
            raise ValueError("rank is not a positive integer")
        if type(rows) is not int or not 0 <= rows <= MAX_ROWS:
            raise ValueError("rows is not a number of rows")
        if predictions is not None and (type(predictions) is not int or not 0 <= predictions <= MAX_PREDICTIONS):
            raise ValueError("predictions is not a number of predictions")
        return cls(name, rank, rows, ModelDescription.from_values(values), predictions)
