"""E2E (CSV), WebNLG (XML) and DART (JSON): data, and texts that describe it, several of the same data.

A prompt is `DATA ||`, as in the LoRA paper's own code: of E2E the meaning representation as it is, of the others
triples `subject : relation : object`, with a bar between two.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from client.data.row_checks import BadRow, read_text
from client.data.rows import Row
from common.errors import DataError
from simulations.corpora.paper.files import PaperRow, read_fields, read_items

_NAME = re.compile(r"\bname\[([^\]]+)\]")


def read_e2e(file: Path) -> tuple[PaperRow, ...]:
    """Return `prompt`, `completion` and the restaurant's `name` of a CSV file with the columns `mr` and `ref`.

    Raises:
        DataError: it cannot be read, lacks a column, or some of its rows are broken.
    """
    return read_items(file, "line", read_fields(file, "mr", "ref"), _e2e)


def _e2e(row: Row) -> Sequence[PaperRow]:
    meaning = read_text(row.fields, "mr")
    if (name := _NAME.search(meaning)) is None:
        raise BadRow("'mr' has no name[...], which tells whom the row belongs to")
    return (_described(meaning, read_text(row.fields, "ref"), name=name[1]),)


def read_dart(file: Path) -> tuple[PaperRow, ...]:
    """Return `prompt`, `completion` and `source` of each annotation of a JSON list of triple sets.

    Raises:
        DataError: it cannot be read, lacks a column, or some of its sets are broken.
    """
    return read_items(file, "row", read_fields(file, "tripleset", "annotations"), _dart)


def _dart(row: Row) -> Sequence[PaperRow]:
    triples, annotations = row.fields.get("tripleset"), row.fields.get("annotations")
    if not isinstance(triples, list) or not all(isinstance(triple, list) for triple in triples):
        raise BadRow("'tripleset' is no list of triples")
    if not isinstance(annotations, list) or not all(isinstance(each, dict) for each in annotations):
        raise BadRow("'annotations' is no list of objects with source and text")
    data = _triples(triples)
    return tuple(_described(data, read_text(each, "text"), source=read_text(each, "source")) for each in annotations)


def read_webnlg(folder: Path) -> tuple[PaperRow, ...]:
    """Return `prompt`, `completion` and `category` of each text in all XML files of a folder, each once.

    Texts that their publishers mark to be fixed, those in another language than English, and entries without a text
    are left out; the files of the test repeat entries of one another.

    Raises:
        DataError: there is no such file, one is no XML, or some of its entries are broken.
    """
    files = sorted(folder.rglob("*.xml"))
    if not files:
        raise DataError(f"{folder} has no .xml files; put WebNLG's there as its publishers pack them")
    every = (row for file in files for row in read_items(file, "entry", _entries(file), _webnlg))
    rows = tuple({(row["prompt"], row["completion"]): row for row in every}.values())
    if not rows:
        raise DataError(f"{folder}: no <entry> of its .xml files has a <lex>, a text; put files with references there")
    return rows


def _entries(file: Path) -> Iterator[tuple[str, Element]]:
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - expat bounds what entities grow to
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise DataError(f"{file} is no XML ({error}); get the file again") from None
    for number, entry in enumerate(root.iter("entry"), 1):
        yield entry.get("eid", f"{number}"), entry


def _webnlg(entry: Element) -> Sequence[PaperRow]:
    texts = [text for each in entry.iterfind("lex") if _is_good(each) and (text := (each.text or "").strip())]
    if not texts:
        return ()
    data = _triples((each.text or "").split(" | ") for each in entry.iterfind("modifiedtripleset/mtriple"))
    if not (category := entry.get("category", "")):
        raise BadRow("names no category")
    return tuple(_described(data, text, category=category) for text in texts)


def _is_good(text: Element) -> bool:
    return text.get("comment", "") in ("", "good") and text.get("lang", "en") in ("", "en")


def _triples(triples: Iterable[Sequence[object]]) -> str:
    every = [[_text(part) for part in triple] for triple in triples]
    if not every or any(len(triple) != 3 or not all(triple) for triple in every):
        raise BadRow("has no triples, or one without subject, relation and object, each a text or number")
    return " | ".join(" : ".join(triple) for triple in every)


def _text(part: object) -> str:
    """Return a text or a number as it is printed; nothing in place of anything else."""
    return str(part).strip() if isinstance(part, str | int | float) and not isinstance(part, bool) else ""


def _described(data: str, text: str, **owner: str) -> PaperRow:
    return {"prompt": f"{data} ||", "completion": f" {text.strip()}", **owner}
