"""How a table of text is written: which character parts its fields, and whether quotes enclose them."""

import csv
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

Quoting = Literal[0, 3]


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Args:
        delimiter: between fields.
        quoting: as the module csv names it.
        skipped: lines before its header.
        spaced: a blank after each delimiter belongs to it.
    """

    delimiter: str
    quoting: Quoting = csv.QUOTE_MINIMAL
    skipped: int = 0
    spaced: bool = False


_DELIMITERS = ",;\t|"
_SPREADSHEET = re.compile(r"sep=([,;\t|])\r?\n?$", re.IGNORECASE)
"""A first line by which Excel tells the delimiter."""


def find_dialect(sample: Sequence[str], tabs: bool) -> Dialect:
    """Return how a table is written, by its header; rows decide between delimiters that would all part the header.

    Args:
        sample: the table's first lines.
        tabs: by its name it has tabs; then, as IANA defines it, quotes are plain characters, unless they enclose the
            whole header.
    """
    if sample and (told := _SPREADSHEET.match(sample[0])):
        return Dialect(told[1], skipped=1)
    order = ("\t" + _DELIMITERS.replace("\t", "")) if tabs else _DELIMITERS
    dialects = [Dialect(each, _quoting(sample, each, tabs), 0, _spaced(sample, each)) for each in order]
    return max(dialects, key=lambda each: _fit(sample, each))  # the first of equals


def _header(sample: Sequence[str], delimiter: str) -> list[str]:
    return next((line.strip("\r\n") for line in sample if line.strip()), "").split(delimiter)


def _spaced(sample: Sequence[str], delimiter: str) -> bool:
    """Return whether a blank comes after each delimiter of the header."""
    _, *names = _header(sample, delimiter)
    return bool(names) and delimiter != "\t" and all(name[:1] == " " and name.strip() for name in names)


def _quoting(sample: Sequence[str], delimiter: str, tabs: bool) -> Quoting:
    header = _header(sample, delimiter)
    enclosed = all(len(name) > 1 and name[0] == name[-1] == '"' for name in header)
    return csv.QUOTE_NONE if tabs and delimiter == "\t" and not enclosed else csv.QUOTE_MINIMAL


def _fit(sample: Sequence[str], dialect: Dialect) -> float:
    """Return the share of rows with as many fields as the header; 0 if the header has only one."""
    header, *rows = _records(sample, dialect) or [[]]
    if len(header) < 2:
        return 0
    return sum(len(row) == len(header) for row in rows) / len(rows) if rows else 0.5


def _records(sample: Sequence[str], dialect: Dialect) -> list[list[str]]:
    records: list[list[str]] = []
    reader = csv.reader(
        io.StringIO("".join(sample), newline=""),
        delimiter=dialect.delimiter,
        quoting=dialect.quoting,
        skipinitialspace=dialect.spaced,
        strict=True,
    )
    with suppress(csv.Error):  # What was read before it still tells.
        records.extend(record for record in reader if record)
    return records
