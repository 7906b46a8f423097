"""Checks of rows from any file; an unusable row is reported by file and line."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from common.errors import DataError, nearest

Item = TypeVar("Item")
Value = TypeVar("Value")

_SHOWN = 5


class BadRow(ValueError):
    """The reason why one row cannot be used."""


def read_each(file: Path, items: Iterable[tuple[int, Item]], read: Callable[[Item], Value]) -> tuple[Value, ...]:
    """`read` of every item; items come with their line of the file.

    Raises:
        DataError: `read` raised BadRow; names the first such lines and how many there are.
    """
    values, faults = [], []
    for line, item in items:
        try:
            values.append(read(item))
        except BadRow as reason:
            faults.append(f"{file}, line {line}: {reason}")
    if faults:
        total = len(values) + len(faults)
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        head = f"{file}: {len(faults)} of {total} rows cannot be used; fix or remove them"
        raise DataError("\n".join([head, *faults[:_SHOWN], *more]))
    return tuple(values)


def require_columns(file: Path, found: tuple[str, ...], **wanted: str) -> None:
    """Check that the file has the wanted columns, each given as KEY=COLUMN, with the setting's key.

    Raises:
        DataError: one is missing.
    """
    for key, column in wanted.items():
        if column not in found:
            raise DataError(
                f"{file} has the columns {', '.join(map(repr, found))}, but no {column!r}{nearest(column, found)}; "
                f'set {key} = "COLUMN" (in a recipe: [data] {key})'
            )


def read_text(fields: Mapping[str, Any], column: str) -> str:
    """Return the text in that column.

    Raises:
        BadRow: it is absent, blank, no text, or contains half a surrogate pair (JSON can; no tokenizer reads it).
    """
    value = fields.get(column)
    if value is None or value == "":
        raise BadRow(f"{column!r} is empty")
    if not isinstance(value, str):
        raise BadRow(f"{column!r} is not text but {type(value).__name__}")
    if value.isspace():
        raise BadRow(f"{column!r} is blank")
    if re.search("[\ud800-\udfff]", value):
        raise BadRow(f"{column!r} contains half a surrogate pair")
    return value
