"""GLUE, arXiv 1804.07461: tables with tabs, in which quotes are plain characters; CoLA's has no header.

A row has one `text`, so two sentences are one text with their names before them, as T5 reads them (arXiv 1910.10683,
appendix D): `sentence1: … sentence2: …`. The separator of a tokenizer is not known when rows are read.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.data.files.part import TOO_LONG
from client.data.files.text import bounded_lines, check_characters, open_text
from client.data.row_checks import BadRow, read_text
from common.errors import DataError
from simulations.corpora.paper.files import PaperRow, check_columns, read_items

_ENCODING = "utf-8"
_BINARY = ("0", "1")
_ENTAILS = ("entailment", "not_entailment")
_SENTENCES = {"sentence1": "sentence1", "sentence2": "sentence2"}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """The columns of a task.

    Args:
        texts: each column that is read, and the name of its text.
        label: column of the label.
        labels: all of them; none where it is a number from 0 to 5.
        header: all columns, of a file that does not name them.
        gaps: rows with fewer fields or an empty text, of which QQP's files have a few, are left out and counted; else
            refused.
    """

    texts: Mapping[str, str]
    label: str = "label"
    labels: tuple[str, ...] = _BINARY
    header: tuple[str, ...] = ()
    gaps: bool = False


TABLES: Mapping[str, Table] = {
    "cola": Table({"sentence": ""}, header=("source", "label", "judgement", "sentence")),
    "sst2": Table({"sentence": ""}),
    "mrpc": Table({"#1 String": "sentence1", "#2 String": "sentence2"}, "Quality"),
    "qqp": Table({"question1": "question1", "question2": "question2"}, "is_duplicate", gaps=True),
    "stsb": Table(_SENTENCES, "score", labels=()),
    "mnli": Table(
        {"sentence1": "premise", "sentence2": "hypothesis"}, "gold_label", ("entailment", "neutral", "contradiction")
    ),
    "qnli": Table({"question": "question", "sentence": "sentence"}, labels=_ENTAILS),
    "rte": Table(_SENTENCES, labels=_ENTAILS),
    "wnli": Table(_SENTENCES),
}


def read_table(task: str, file: Path) -> tuple[PaperRow, ...]:
    """Return `text` and `label` of each row of a task's file.

    Raises:
        DataError: it cannot be read, lacks a column, or some of its rows are broken.
    """
    table, lines = TABLES[task], _lines(file)
    header = table.header or tuple(_fields(next(lines, (1, ""))[1]))
    check_columns(file, header, (*table.texts, table.label))
    rows = read_items(file, "line", lines, partial(_read, table, header))
    if left_out := sum(1 for row in rows if not row):
        log.warning("%s: %s rows lack fields or a text and are left out", file, left_out)
    return tuple(row for row in rows if row)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    with open_text(file, _ENCODING) as text:
        for number, line in bounded_lines(text):
            if line is None:
                raise DataError(f"{file}, line {number}: {TOO_LONG}")
            yield number, line


def _read(table: Table, header: Sequence[str], line: str) -> Sequence[PaperRow]:
    """Return the row of a line; an empty one in place of a row to leave out."""
    check_characters(line, _ENCODING)
    values = _fields(line)
    if table.gaps and (len(values) < len(header) or _lacks_text(table, dict(zip(header, values, strict=False)))):
        return ({},)
    if len(values) != len(header):
        raise BadRow(f"has {len(values)} fields where there are {len(header)} columns")
    fields = dict(zip(header, values, strict=True))
    texts = [f"{name}: " * bool(name) + read_text(fields, column).strip() for column, name in table.texts.items()]
    return ({"text": " ".join(texts), "label": _label(table, fields[table.label])},)


def _lacks_text(table: Table, fields: Mapping[str, str]) -> bool:
    return not all(fields[column].strip() for column in table.texts)


def _label(table: Table, value: str) -> str:
    if table.labels and value not in table.labels:
        raise BadRow(f"{table.label!r} is {value!r}, which is not one of {', '.join(table.labels)}")
    if not table.labels and not _is_score(value):
        raise BadRow(f"{table.label!r} is {value!r}, which is no number from 0 to 5")
    return value


def _is_score(value: str) -> bool:
    try:
        return 0 <= float(value) <= 5
    except ValueError:
        return False


def _fields(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")
