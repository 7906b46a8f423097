"""Kinds of files of rows by their endings, and what their content says beyond: a registry of `Part`."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from client.data.files.arrow import arrow_columns, arrow_rows
from client.data.files.json_document import json_list, json_object
from client.data.files.json_lines import json_lines
from client.data.files.part import Item, Meter, Part
from client.data.files.table import header, table
from client.data.files.text import bounded_lines, open_text
from client.data.rows import Row
from common.errors import DataError

_JSON: Mapping[str, Callable[[Path, str, Meter], Iterator[Item]]] = {
    "lines": json_lines,
    "list": json_list,
    "object": json_object,
}


def _json(path: Path, encoding: str) -> Part:
    kind = _json_kind(path, encoding)
    items = partial(_JSON[kind], path, encoding)
    return Part(path, "line" if kind == "lines" else "row", partial(_columns, items), items)


def _columns(items: Callable[[Meter], Iterator[Item]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in items(Meter()):
        if isinstance(item, Row):
            found.update(dict.fromkeys(item.fields))
    return tuple(found)


def _json_kind(path: Path, encoding: str) -> Literal["lines", "list", "object"]:
    """Return what a file of JSON is; only `.json` can be one object."""
    with open_text(path, encoding) as text:
        first, second = [line or "" for _, line in (*islice(bounded_lines(text), 2), (0, ""), (0, ""))][:2]
    if first.lstrip().startswith("["):
        return "list"
    if ending(path) != ".json" or not first.lstrip().startswith("{") or (second and _is_whole(first)):
        return "lines"
    return "lines" if second.startswith("{") and first.strip() != "{" else "object"


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _table(path: Path, encoding: str, tabs: bool = False) -> Part:
    return Part(path, "line", partial(header, path, encoding, tabs), partial(table, path, encoding, tabs))


def _arrow(path: Path, encoding: str) -> Part:
    return Part(path, "row", partial(arrow_columns, path), partial(arrow_rows, path))


KINDS: dict[str, Callable[[Path, str], Part]] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _table,
    ".tsv": partial(_table, tabs=True),
    ".parquet": _arrow,
    ".arrow": _arrow,
}
"""Kind by ending."""
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of packed files; what is in them has its own before that."""
ENDINGS = (*KINDS, *(f"{kind}{packed}" for kind in KINDS if KINDS[kind] is not _arrow for packed in PACKED))
"""Endings of files of rows in a folder."""


_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods")


def ending(path: Path) -> str:
    """Return a path's ending, in small letters and without that of a packed file."""
    return (Path(path.stem) if path.suffix.lower() in PACKED else path).suffix.lower()


def part_of(path: Path, encoding: str) -> Part:
    """Return a file of rows by its ending.

    Raises:
        DataError: the ending is unknown, or the file cannot be read.
    """
    if (kind := KINDS.get(ending(path))) is None:
        known = ", ".join(KINDS)
        remedy = "save the sheet as CSV" if path.suffix.lower() in _SHEETS else f"use {known}"
        raise DataError(f"{path} ends in {path.suffix!r}, which is not a known kind of file; {remedy}")
    return kind(path, encoding)
