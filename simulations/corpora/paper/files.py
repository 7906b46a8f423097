"""What all readers share: rows of ours from the items of a file, and refusals that name file, item and remedy."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from client.data.files.source import read_rows
from client.data.row_checks import SHOWN, BadRow, refusal
from client.data.rows import Row, column_names
from common.errors import DataError

PaperRow = Mapping[str, str]
Item = TypeVar("Item")
Read = TypeVar("Read")


def read_items(
    file: Path, unit: str, items: Iterable[tuple[object, Item]], read: Callable[[Item], Sequence[Read]]
) -> tuple[Read, ...]:
    """Return the rows of each item; an item comes with its number or name in the file.

    Args:
        file: that they are in.
        unit: what an item is called, as "line".
        items: with their numbers.
        read: returns an item's rows, or raises BadRow.

    Raises:
        DataError: `read` raised BadRow; the text names the first such items.
    """
    rows: list[Read] = []
    places: list[str] = []
    total = 0
    for place, item in items:
        total += 1
        try:
            rows += read(item)
        except BadRow as reason:
            places.append(f"{file}, {unit} {place}: {reason}")
    if places:
        raise DataError(refusal(file, places[:SHOWN], len(places), total, "fix them, or get the file again"))
    return tuple(rows)


def read_fields(file: Path, *columns: str) -> list[tuple[int, Row]]:
    """Return the rows of a table or a file of JSON that has these columns, each with its number.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    rows = read_rows(file)
    check_columns(file, column_names(rows), columns)
    return [(row.line, row) for row in rows]


def check_columns(file: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Check that a file has the wanted columns.

    Raises:
        DataError: it lacks one.
    """
    if missing := [column for column in wanted if column not in found]:
        raise DataError(
            f"{file} has the columns {', '.join(map(repr, found))}, but not {', '.join(map(repr, missing))}; "
            "put the file there as its publishers pack it"
        )
