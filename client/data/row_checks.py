"""Checks of rows, whatever the file format; an unusable row is reported by file and line."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from common.errors import DataError, nearest

Item = TypeVar("Item")
Value = TypeVar("Value")

_SHOWN = 5


class BadRow(ValueError):
    """A row that cannot be used; its text is the reason."""


def read_each(file: Path, items: Iterable[tuple[int, Item]], read: Callable[[Item], Value]) -> tuple[Value, ...]:
    """Apply `read` to every item; each item comes with its line in the file.

    Raises:
        DataError: `read` raised BadRow; the text names the first such lines and their number.
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
                f"{file} has the columns {', '.join(map(repr, found))}, but no {column!r}"
                f'{nearest(column, found, cutoff=0.6)}; set {key} = "COLUMN" (in a recipe: [data] {key})'
            )


def read_text(fields: Mapping[str, Any], column: str) -> str:
    """Return the text in that column.

    Raises:
        BadRow: it is absent, blank, not text, or contains half a surrogate pair (valid in JSON; no tokenizer reads it).
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
