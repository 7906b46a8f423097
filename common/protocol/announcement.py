"""A node's announcement: what it trains and holds, sent once it has read its base model and rows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from common.adapters.link_codecs import Held
from common.huggingface.model_description import MAX_TEXT, ModelDescription

MAX_ROWS = 10**12
"""Largest number of rows that a node may announce."""
MAX_PREDICTIONS = 10**15
"""Largest number of predictions that a node may announce."""
MAX_UNFINISHED = 16
"""Most earlier runs that a node may announce."""
_RUN = re.compile("[0-9a-f]{64}")


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
        held: the global update of the run that the node has kept, if any.
        saves: the node saves the last global update of a run, and is to be sent it.
        unfinished: identities of earlier runs of the project that the node has saved without their last global update.
        skipped: rows of its files that it leaves out, as they cannot be used; `rows` does not count them.
    """

    name: str
    rank: int
    rows: int
    model: ModelDescription
    predictions: int | None = None
    held: Held | None = None
    saves: bool = False
    unfinished: tuple[str, ...] = ()
    skipped: int = 0

    def to_values(self) -> dict[str, Any]:
        """Return plain values for a message."""
        own: dict[str, Any] = {"name": self.name, "rank": self.rank, "rows": self.rows}
        counted = {} if self.predictions is None else {"predictions": self.predictions}
        kept: dict[str, Any] = {"held": self.held.digest, "held_ranks": list(self.held.ranks)} if self.held else {}
        kept |= {"saves": True} if self.saves else {}
        kept |= {"unfinished": list(self.unfinished)} if self.unfinished else {}
        kept |= {"skipped": self.skipped} if self.skipped else {}
        return own | counted | kept | self.model.to_values()

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
        saves = values.get("saves", False)
        if type(saves) is not bool:
            raise ValueError("saves is not a truth value")
        skipped = values.get("skipped", 0)
        if type(skipped) is not int or not 0 <= skipped <= MAX_ROWS:
            raise ValueError("skipped is not a number of rows")
        model = ModelDescription.from_values(values)
        return cls(name, rank, rows, model, predictions, _held(values), saves, _unfinished(values), skipped)


def _held(values: Mapping[str, Any]) -> Held | None:
    digest, ranks = values.get("held", ""), values.get("held_ranks", [])
    if type(digest) is not str or len(digest) > MAX_TEXT or type(ranks) is not list:
        raise ValueError("held is not the hash and the ranks of a global update")
    if not all(type(rank) is int and rank >= 0 for rank in ranks):
        raise ValueError("held_ranks are not ranks")
    return Held(digest, tuple(ranks)) if digest else None


def _unfinished(values: Mapping[str, Any]) -> tuple[str, ...]:
    runs = values.get("unfinished", [])
    if type(runs) is not list or len(runs) > MAX_UNFINISHED:
        raise ValueError("unfinished is not a short list")
    if not all(type(run) is str and _RUN.fullmatch(run) for run in runs):
        raise ValueError("unfinished are not identities of runs")
    return tuple(runs)
