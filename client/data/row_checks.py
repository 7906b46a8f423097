"""Checks of rows, whatever the file format; an unusable row is reported by file and line."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from client.data.rows import BadLine
from common.errors import DataError, nearest

Item = TypeVar("Item")
Value = TypeVar("Value")

SHOWN = 5
"""Unusable rows that are named; more are counted."""


class BadRow(ValueError):
    """A row that cannot be used; its text is the reason."""


class BadRows(DataError):
    """Rows of one file that cannot be used: each one's line and reason."""

    def __init__(self, file: Path, faults: Sequence[BadLine], total: int) -> None:
        places = [f"{file}, line {fault.line}: {fault.reason}" for fault in faults[:SHOWN]]
        super().__init__(refusal(file, places, len(faults), total))
        self.faults = tuple(faults)


def read_each(file: Path, items: Iterable[tuple[int, Item]], read: Callable[[Item], Value]) -> tuple[Value, ...]:
    """Apply `read` to every item; each item comes with its line in the file.

    Raises:
        BadRows: `read` raised BadRow; the text names the first such lines and their number.
    """
    values, faults = [], []
    for line, item in items:
        try:
            values.append(read(item))
        except BadRow as reason:
            faults.append(BadLine(line, str(reason)))
    if faults:
        raise BadRows(file, faults, len(values) + len(faults))
    return tuple(values)


def refusal(file: Path, places: Sequence[str], count: int, total: int, remedy: str = "fix or remove them") -> str:
    """Return the text that refuses a file of which `count` rows cannot be used; `places` tells the first of them."""
    more = [f"and {count - SHOWN} more"] if count > SHOWN else []
    return "\n".join([f"{file}: {count} of {total} rows cannot be used; {remedy}", *places[:SHOWN], *more])


def require_columns(file: Path, found: tuple[str, ...], **wanted: str) -> None:
    """Check that the file has the wanted columns, each given as KEY=COLUMN, with the setting's key.

    Raises:
        DataError: one is missing.
    """
    for key, column in wanted.items():
        if column not in found:
            raise DataError(
                f"{file} has the columns {', '.join(map(repr, found))}, but no {column!r}"
                f'{nearest(column, found, cutoff=0.6)}; set {key} = "COLUMN" (in a recipe: [data] {key})'
            )


def read_text(fields: Mapping[str, Any], column: str) -> str:
    """Return the text in that column.

    Raises:
        BadRow: it is absent, blank, not text, or contains half a surrogate pair (valid in JSON; no tokenizer reads it).
    """
    value = fields.get(column)
    if value is None or value == "" or value != value:  # NaN
        raise BadRow(f"{column!r} is empty")
    if not isinstance(value, str):
        raise BadRow(f"{column!r} is not text but {type(value).__name__}")
    if value.isspace():
        raise BadRow(f"{column!r} is blank")
    if re.search("[\ud800-\udfff]", value):
        raise BadRow(f"{column!r} contains half a surrogate pair")
    return value


def is_filled(value: Any) -> bool:
    """Return whether a field has something, be it of a wrong kind: more than blanks, and not pandas' NaN."""
    return value is not None and value == value and not (isinstance(value, str) and not value.strip())
