"""Reader of a node's own file of rows; an unusable row is reported by file and line."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from client.data.row_checks import BadRow, read_each
from common.errors import DataError
from common.plain_files import read_plain


@dataclass(frozen=True)
class Row:
    """A row: its fields by column, and the line where it starts, from 1 (in Parquet: its number)."""

    line: int
    fields: Mapping[str, Any]


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read all rows of a JSON Lines, CSV, TSV (IANA's, without quoting) or Parquet file, in order; text is UTF-8.

    Raises:
        DataError: the file is missing, empty or of an unknown kind, or some of its rows are broken.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} ends in {path.suffix!r}, which is not a known kind of file; use {', '.join(_READERS)}")
    rows = reader(path)
    if not rows:
        raise DataError(f"{path} contains no rows; give a file with at least one")
    return rows


def column_names(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns that any row has, in order of first appearance."""
    return tuple(dict.fromkeys(column for row in rows for column in row.fields))


def by_line(rows: Iterable[Row]) -> list[tuple[int, Row]]:
    """Return each row with its line."""
    return [(row.line, row) for row in rows]


def _json_lines(path: Path) -> tuple[Row, ...]:
    lines = tuple(enumerate(io.StringIO(_text(path)), start=1))
    fields = read_each(path, lines, _json_object)
    return tuple(Row(line, row) for (line, _), row in zip(lines, fields, strict=True))


def _json_object(line: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadRow(f"is not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise BadRow(f"cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadRow(f'is not a JSON object such as {{"text": "..."}} but {type(value).__name__}')
    return value


def _csv(path: Path) -> tuple[Row, ...]:
    return _table(path, csv.reader(io.StringIO(_text(path), newline=""), strict=True))


def _tsv(path: Path) -> tuple[Row, ...]:
    text = io.StringIO(_text(path), newline="")
    return _table(path, csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE))


def _table(path: Path, reader: Any) -> tuple[Row, ...]:
    records, line = [], 1
    try:
        for record in reader:
            records.append((line, record))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; fix the row's quotes, or use JSON Lines") from None
    header = records[0][1] if records else []
    if len(set(header)) < len(header):
        raise DataError(f"{path}, line 1: the header names a column twice: {', '.join(header)}; rename one")
    rows = read_each(path, records[1:], lambda record: _name_fields(header, record))
    return tuple(Row(line, row) for (line, _), row in zip(records[1:], rows, strict=True))


def _name_fields(header: list[str], record: list[str]) -> Mapping[str, str]:
    if len(record) != len(header):
        raise BadRow(f"has {len(record)} fields where the header has {len(header)}")
    return dict(zip(header, record, strict=True))


def _parquet(path: Path) -> tuple[Row, ...]:
    try:
        table = pq.ParquetFile(pa.BufferReader(_bytes(path))).read()
        return tuple(Row(number, fields) for number, fields in enumerate(table.to_pylist(), start=1))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a Parquet file ({error}); write it again") from None


def _text(path: Path) -> str:
    data = _bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: is not UTF-8 ({error.reason}); save the file as UTF-8") from None


def _bytes(path: Path) -> bytes:
    try:
        return read_plain(path, links=True)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give the path of a file of rows") from None
    except MemoryError:
        raise DataError(f"{path} is larger than the free memory; give a smaller file of rows") from None


_READERS: Mapping[str, Callable[[Path], tuple[Row, ...]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
