"""Tables of text, CSV and TSV: a header, then a row a record, which may span lines in quotes; blanks are skipped.

Several columns without a name are not read: spreadsheets write such where a sheet has empty columns.
"""

import csv
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

from client.data.files.delimiter import Dialect, find_dialect
from client.data.files.part import LONGEST, TOO_LONG, Item, Meter
from client.data.files.text import check_characters, open_text
from client.data.row_checks import BadRow
from client.data.rows import BadLine, Row
from common.errors import DataError

_SAMPLE = 100
"""Lines by which the delimiter is found."""
csv.field_size_limit(LONGEST)


def table(path: Path, encoding: str, tabs: bool, meter: Meter) -> Iterator[Item]:
    """Yield the rows of a table.

    Args:
        path: of the file.
        encoding: of its text.
        tabs: its name says that tabs part its fields.
        meter: is set to tell how far the file is read.

    Raises:
        DataError: it cannot be read, its header names a column twice, or its quotes do not end.
    """
    dialect = _dialect(path, encoding, tabs)
    with open_text(path, encoding, meter, newline="") as text:
        lines = _Lines(path, text, encoding)
        records = _records(path, lines, dialect)
        header = next(records, (0, [], None))[1]
        named = {*_named(header)}
        for number, record, fault in records:
            if fault is None and len(record) != len(header):
                fault = f"has {len(record)} fields where the header has {len(header)}{_hint(header, dialect)}"
            fields = {name: field for name, field in zip(header, record, strict=False) if name in named}
            yield BadLine(number, fault) if fault else Row(number, fields)


def header(path: Path, encoding: str, tabs: bool) -> tuple[str, ...]:
    """Return the columns that the header of a table names.

    Raises:
        DataError: it cannot be read, or names a column twice.
    """
    dialect = _dialect(path, encoding, tabs)
    with open_text(path, encoding, newline="") as text:
        first = next(_records(path, _Lines(path, text, encoding), dialect), None)
    line, names, fault = first or (1, [], None)
    if fault:
        raise DataError(f"{path}, line {line}: the header {fault}")
    named = _named(names)
    if len(set(named)) < len(named):
        raise DataError(f"{path}, line {line}: the header names a column twice: {', '.join(named)}; rename one")
    return tuple(named)


def _named(names: list[str]) -> list[str]:
    """Return the names of columns, without empty ones if there are several."""
    return [name for name in names if name] if names.count("") > 1 else names


def _dialect(path: Path, encoding: str, tabs: bool) -> Dialect:
    with open_text(path, encoding, newline="") as text:
        return find_dialect(list(islice(_Lines(path, text, encoding), _SAMPLE)), tabs)


def _records(path: Path, lines: "_Lines", dialect: Dialect) -> Iterator[tuple[int, list[str], str | None]]:
    """Yield line, fields and fault of each record that is not blank, header first."""
    for _ in islice(lines, dialect.skipped):
        pass
    reader: Any = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quoting=dialect.quoting,
        skipinitialspace=dialect.spaced,
        strict=True,
    )
    while True:
        begin, lines.fault = lines.number + 1, None
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {begin}: {error}; fix the row's quotes, or use JSON Lines") from None
        if record is None:
            return
        if record and (len(record) > 1 or record[0].strip()):
            yield begin, record, lines.fault


def _hint(header: list[str], dialect: Dialect) -> str:
    return f"; put a text with {dialect.delimiter!r} in quotes" if len(header) == 1 else ""


class _Lines(Iterator[str]):
    """The lines of a table: how many were read, and what is wrong with those since `fault` was last None."""

    def __init__(self, path: Path, text: TextIOWrapper, encoding: str) -> None:
        self._path, self._text, self._encoding = path, text, encoding
        self.number = 0
        self.fault: str | None = None

    def __next__(self) -> str:
        line = self._text.readline(LONGEST)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST:
            raise DataError(f"{self._path}, line {self.number}: {TOO_LONG}")
        try:
            check_characters(line, self._encoding)
        except BadRow as reason:
            self.fault = str(reason)
        return line
