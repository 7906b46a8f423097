"""Files of Arrow's tables: Parquet, and Arrow's own stream and file format; a row's line is its number."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from client.data.files.part import Item, Meter
from client.data.files.text import opened
from client.data.labels import ClassNumber
from client.data.rows import Row
from common.errors import DataError

Batches: TypeAlias = tuple[pa.Schema, int | None, Iterator[pa.RecordBatch]]
"""Columns, number of rows if it is known, and the rows."""

_PIECE = 1 << 20
"""Bytes of rows that are made Python's objects at once."""


def arrow_columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a file.

    Raises:
        DataError: it cannot be read, or has two columns of one name.
    """
    with _batches(path) as (schema, _, _):
        names = tuple(schema.names)
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two columns have one name: {', '.join(names)}; rename one")
    return names


def arrow_rows(path: Path, meter: Meter) -> Iterator[Item]:
    """Yield the rows of a file.

    Raises:
        DataError: it cannot be read.
    """
    with _batches(path) as (schema, total, batches):
        number, size = 0, 0.0
        meter.consumed, meter.share = lambda: int(size), lambda: number / total if total else 0.0
        classes = _class_names(schema)
        for batch in batches:
            each = batch.nbytes / max(1, len(batch))
            for fields in _fields(batch, each, classes):
                number, size = number + 1, size + each
                yield Row(number, fields)


def is_without_arrow_rows(path: Path) -> bool:
    """Return whether a file has no rows; one that cannot be read has what its reader will say."""
    try:
        with _batches(path) as (_, total, batches):
            return total == 0 if total is not None else not any(map(len, batches))
    except DataError:
        return path.stat().st_size == 0


@contextmanager
def _batches(path: Path) -> Iterator[Batches]:
    with opened(path) as file:
        try:
            yield _open(file)
        except (pa.ArrowException, OSError, ValueError) as error:
            what = " ".join(str(error).split())
            kind = "a Parquet" if path.suffix.lower() == ".parquet" else "an Arrow"
            raise DataError(f"{path} cannot be read as {kind} file ({what}); write it again") from None


def _open(file: BufferedReader) -> Batches:
    if file.peek(4)[:4] == b"PAR1":
        return _parquet(file)
    if file.peek(6)[:6] == b"ARROW1":
        reader = pa.ipc.open_file(file)
        return reader.schema, None, map(reader.get_batch, range(reader.num_record_batches))
    stream = pa.ipc.open_stream(file)
    return stream.schema, None, iter(stream)


def _parquet(file: BufferedReader) -> Batches:
    table = pq.ParquetFile(file)
    meta = table.metadata
    size = sum(meta.row_group(each).total_byte_size for each in range(meta.num_row_groups))
    return table.schema_arrow, meta.num_rows, table.iter_batches(_rows_of(size / max(1, meta.num_rows)))


def _rows_of(each: float) -> int:
    """Return how many rows of so many bytes make a piece."""
    return max(1, min(1024, int(_PIECE / max(1.0, each))))


def _fields(batch: pa.RecordBatch, each: float, classes: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    step = _rows_of(each)
    for begin in range(0, len(batch), step):
        for fields in batch.slice(begin, step).to_pylist():
            yield {**fields, **_named(fields, classes)} if classes else fields


def _named(fields: Mapping[str, Any], classes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {column: _with_name(fields[column], names) for column, names in classes.items() if column in fields}


def _with_name(value: Any, names: Sequence[str]) -> Any:
    """Return the number of a class with its name; in a list, each; any other value as it is."""
    if isinstance(value, list):
        return [_with_name(each, names) for each in value]
    return ClassNumber.named(value, names[value]) if type(value) is int and 0 <= value < len(names) else value


def _class_names(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Return the names of classes by column, as the library `datasets` writes them beside a table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kinds = {name: each.get("feature", each) for name, each in features.items()}  # A list has one inside.
        found = {name: each["names"] for name, each in kinds.items() if each.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {name: names for name, names in found.items() if _are_texts(names) and name in schema.names}


def _are_texts(names: Any) -> bool:
    return isinstance(names, list) and all(type(name) is str for name in names)
