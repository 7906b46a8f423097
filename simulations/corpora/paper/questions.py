"""WikiSQL (JSON Lines with a file of tables) and SAMSum (JSON): questions as SQL, and dialogues in short."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from client.data.row_checks import BadRow, read_text
from client.data.rows import Row
from simulations.corpora.paper.files import PaperRow, read_fields, read_items

_AGGREGATES = ("", "MAX", "MIN", "COUNT", "SUM", "AVG")
_COMPARISONS = ("=", ">", "<", "OP")
log = logging.getLogger(__name__)


def read_wikisql(file: Path) -> tuple[PaperRow, ...]:
    """Return `prompt`, `completion` and `table` of each question; `train.jsonl` has its tables in `train.tables.jsonl`.

    A prompt names the table's columns before the question; a completion is its SQL with these names (arXiv 1709.00103).

    Raises:
        DataError: one of the two cannot be read, lacks a column, or some of its rows are broken.
    """
    tables = file.with_name(f"{file.stem}.tables.jsonl")
    headers = dict(read_items(tables, "line", read_fields(tables, "id", "header"), _header))
    rows = read_fields(file, "table_id", "question", "sql")
    return read_items(file, "line", rows, partial(_wikisql, headers, tables.name))


def _header(row: Row) -> Sequence[tuple[str, Sequence[str]]]:
    """Return a table's name and those of its columns."""
    header = row.fields.get("header")
    if not isinstance(header, list) or not header or not all(isinstance(name, str) for name in header):
        raise BadRow("'header' is no list of names")
    return [(read_text(row.fields, "id"), header)]


def _wikisql(headers: Mapping[str, Sequence[str]], tables: str, row: Row) -> Sequence[PaperRow]:
    table, question = read_text(row.fields, "table_id"), read_text(row.fields, "question")
    if table not in headers:
        raise BadRow(f"'table_id' is {table!r}, which {tables} does not have")
    header = headers[table]
    try:
        sql = _sql(row.fields["sql"], header)
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadRow("'sql' is no query of its table: sel, agg, and conds of column, comparison and value") from None
    prompt = f"Columns: {' | '.join(header)}\nQuestion: {question.strip()}\nSQL:"
    return ({"prompt": prompt, "completion": f" {sql}", "table": table},)


def _sql(query: Mapping[str, Any], header: Sequence[str]) -> str:
    wanted = f"{_chosen(_AGGREGATES, query['agg'])} {_chosen(header, query['sel'])}".strip()
    conditions = [_condition(header, *each) for each in query["conds"]]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {wanted} FROM table{where}"  # noqa: S608 - a text to learn, which nothing runs


def _condition(header: Sequence[str], column: object, how: object, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("a value is a text or a number")
    return f"{_chosen(header, column)} {_chosen(_COMPARISONS, how)} {value}"


def _chosen(words: Sequence[str], place: object) -> str:
    """Return a word by its place, and raise IndexError or TypeError where there is none: -1 is no place."""
    if type(place) is not int:
        raise TypeError(f"{place!r} is no place")
    if place < 0:
        raise IndexError(place)
    return words[place]


def read_samsum(file: Path) -> tuple[PaperRow, ...]:
    """Return `prompt` and `completion` of each dialogue of a JSON list, arXiv 1911.12237.

    Rows without a dialogue, of which the training file has one, are left out and counted.

    Raises:
        DataError: it cannot be read, lacks a column, or some of its rows are broken.
    """
    rows = read_fields(file, "dialogue", "summary")
    said = [(number, row) for number, row in rows if row.fields.get("dialogue") != ""]
    if left_out := len(rows) - len(said):
        log.warning("%s: %s rows have no dialogue and are left out", file, left_out)
    return read_items(file, "row", said, _samsum)


def _samsum(row: Row) -> Sequence[PaperRow]:
    dialogue = "\n".join(read_text(row.fields, "dialogue").splitlines())
    return ({"prompt": f"{dialogue}\n\nSummary:", "completion": f" {read_text(row.fields, 'summary').strip()}"},)
