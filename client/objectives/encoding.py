"""Encoding of rows, piece by piece, so that only tokens are held; and what was found wrong with rows on the way."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from client.data.labels import count_labels, similar_labels
from client.data.packed import PackedRows, pack
from client.data.row_checks import SHOWN, BadRows, refusal
from client.data.rows import Chunk
from client.objectives.base import Objective
from common.errors import DataError

_REMEDY = "fix or remove them, or set skip_bad_rows = true (in a recipe: [data] skip_bad_rows) to leave them out"
_VARYING = re.compile(r"(?<=.)'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[0-9]+|\(.*\)|;.*")
"""What differs between two reasons of one kind: values, numbers and hints, but not the column that begins it."""
_KINDS = 20
"""Kinds of reasons that are told; more are counted."""


@dataclass(frozen=True)
class BadPlace:
    """A row that cannot be used."""

    file: Path
    unit: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.line}: {self.reason}"


@dataclass(frozen=True)
class Findings:
    """What the reading of rows found.

    Args:
        skipped: rows that were left out, in order.
        alike: warnings of labels that look alike, for the rows' owner.
        unread: warnings of columns that are not read as they might be.
    """

    skipped: tuple[BadPlace, ...] = ()
    alike: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings."""
        return (*self.alike, *self.unread)

    def lines(self) -> Iterator[str]:
        """Yield lines that tell all of it."""
        if self.skipped:
            yield f"{_count(self.skipped)} cannot be used and left out, as skip_bad_rows asks:"
            yield from (f"  {line}" for line in self.by_reason())
        yield from self.warnings

    def by_reason(self) -> Iterator[str]:
        """Yield a line for each kind of reason: rows, the first reason of that kind, and the first lines."""
        kinds: dict[str, list[BadPlace]] = {}
        for place in self.skipped:
            kinds.setdefault(_VARYING.sub("", place.reason), []).append(place)
        for places in list(kinds.values())[:_KINDS]:
            lines = ", ".join(f"{place.line}" for place in places[:SHOWN]) + ", ..." * (len(places) > SHOWN)
            yield f"{_count(places)} left out ({places[0].unit} {lines}): {places[0].reason}"
        if rest := list(kinds.values())[_KINDS:]:
            yield f"{sum(map(len, rest))} rows left out for {len(rest)} other reasons"


def _count(places: Sequence[BadPlace]) -> str:
    return f"{len(places)} row{'s' * (len(places) != 1)}"


NOTHING = Findings()
"""Nothing was found."""


@dataclass
class _Reading:
    """A reading of rows under way: what was found so far, and how many rows there were."""

    objective: Objective
    bad: list[BadPlace] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    columns: tuple[str, ...] = ()

    def take(self, chunk: Chunk, bad: Sequence[BadPlace]) -> None:
        self.columns = chunk.columns
        self.bad += bad
        self.rows += len(chunk) + len(chunk.bad)
        count_labels(self.labels, (text for row in chunk for text in self.objective.label_texts(row.fields)))


def encode_chunks(
    chunks: Iterable[Chunk], objective: Objective, tokenizer: PreTrainedTokenizerBase, file: Path
) -> tuple[PackedRows, Findings]:
    """Encode all rows, and say what was found.

    Args:
        chunks: the rows, in order.
        objective: of their task.
        tokenizer: of the base model.
        file: that they are of, as its owner named it.

    Raises:
        DataError: a row cannot be used, and none is to be skipped or no other is left; or as `Objective.encode`.
    """
    data = objective.data
    reading = _Reading(objective)
    rows = pack(_encoded(chunks, objective, tokenizer, reading))
    if reading.bad and not (data.skip_bad_rows and len(rows)):
        remedy = "fix them" if data.skip_bad_rows else _REMEDY
        raise DataError(refusal(file, [*map(str, reading.bad[:SHOWN])], len(reading.bad), reading.rows, remedy))
    alike = None if data.has_numbers else _alike(data.label, reading.labels, data.labels)
    notes = ([alike] if alike else []), objective.notes(reading.columns, tokenizer)
    return rows, Findings(tuple(reading.bad), *(tuple(f"{file}: {each}" for each in kind) for kind in notes))


def _alike(column: str, counts: Mapping[str, int], labels: Sequence[str]) -> str | None:
    """Return a warning of values that look alike, or of labels that do, as a node may have rows of only one of them."""
    return similar_labels(column, counts) or similar_labels(column, {each: counts.get(each, 0) for each in labels})


def check_read(chunks: Iterable[Chunk], file: Path) -> None:
    """Check that every place that should have a row has one.

    Raises:
        DataError: names those that have none.
    """
    places, total = [], 0
    for chunk in chunks:
        places += [BadPlace(chunk.file, chunk.unit, each.line, each.reason) for each in chunk.bad]
        total += len(chunk) + len(chunk.bad)
    if places:
        raise DataError(refusal(file, [*map(str, places[:SHOWN])], len(places), total, _REMEDY))


def _encoded(
    chunks: Iterable[Chunk], objective: Objective, tokenizer: PreTrainedTokenizerBase, reading: _Reading
) -> Iterator[Sequence[Any]]:
    for chunk in chunks:
        rows, bad = _encode(chunk, objective, tokenizer)
        reading.take(chunk, bad)
        yield rows


def _encode(
    chunk: Chunk, objective: Objective, tokenizer: PreTrainedTokenizerBase
) -> tuple[Sequence[Any], list[BadPlace]]:
    """Encode the rows of a chunk that can be, and return why others cannot.

    Each step refuses all rows that it cannot take, so without these the next one is reached.
    """
    faults = {each.line: each.reason for each in chunk.bad}
    rows: Sequence[Any] = ()
    while chunk.rows:
        try:
            rows = objective.encode(chunk, tokenizer, chunk.file)
            break
        except BadRows as error:
            found = {each.line: each.reason for each in error.faults}
            faults |= found
            chunk = replace(chunk, rows=tuple(row for row in chunk if row.line not in found))
    return rows, [BadPlace(chunk.file, chunk.unit, line, faults[line]) for line in sorted(faults)]
