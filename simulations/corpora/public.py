"""Public data sets, from the user's folder (`$FEDLORA_DATA/NAME/FILE`), else from the Hugging Face hub."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from string import Formatter
from textwrap import shorten
from types import MappingProxyType
from typing import Any

from client.data.files.source import read_rows
from client.data.row_checks import read_each, read_text
from client.data.rows import Row, column_names
from common.errors import DataError
from simulations.corpora.corpus import Corpus, from_jsonl, to_jsonl

_LONGEST_ANSWER = 800  # characters, in MedQuAD; longer answers are whole articles


@dataclass(frozen=True)
class Layout:
    """A mapping from the rows of one source to ours.

    Args:
        templates: our column -> its text, with the source's columns in braces.
        keep: decides whether a row of the source is read.
    """

    templates: Mapping[str, str]
    keep: Callable[[Mapping[str, Any]], bool] = lambda fields: True

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's columns that are read."""
        parts = (part for template in self.templates.values() for part in Formatter().parse(template))
        return tuple(name for _, name, _, _ in parts if name)


@dataclass(frozen=True)
class Public:
    """A data set: its file below `$FEDLORA_DATA`, its id on the hub (the split `train` is read), and their layouts."""

    file: str
    layout: Layout
    hub: str
    hub_layout: Layout


def _question(site: str) -> Mapping[str, str]:
    return {"prompt": "Question: {question}\nAnswer:", "completion": " {answer}", "site": site}


_LABELLED = Layout({"text": "{text}", "label": "{label}"})

PUBLIC: Mapping[str, Public] = MappingProxyType(
    {
        "banking77": Public(  # Casanueva et al., arXiv 2003.04807
            "banking77/train.csv",
            Layout({"text": "{text}", "label": "{category}"}),
            "mteb/banking77",
            Layout({"text": "{text}", "label": "{label_text}"}),
        ),
        "medquad": Public(  # Ben Abacha and Demner-Fushman, BMC Bioinformatics 20:511, 2019
            "medquad/medquad_short.jsonl",
            Layout(_question("{site}"), lambda fields: fields.get("split", "train") == "train"),
            "lavita/MedQuAD",
            Layout(_question("{document_source}"), lambda fields: 0 < len(fields["answer"] or "") <= _LONGEST_ANSWER),
        ),
        "polarity": Public(  # Pang and Lee, arXiv cs/0506075
            "sentence_polarity/train.tsv", _LABELLED, "cornell-movie-review-data/rotten_tomatoes", _LABELLED
        ),
    }
)


def load(name: str) -> Corpus:
    """Load training rows: `text` and `label` (banking77, polarity) or `prompt`, `completion` and `site` (medquad).

    Raises:
        DataError: the data is not available, or some of its rows are broken.
    """
    public = PUBLIC[name]
    if folder := os.environ.get("FEDLORA_DATA"):
        return _from_file(name, Path(folder).expanduser() / public.file)
    if find_spec("datasets") is None or os.environ.get("HF_HUB_OFFLINE") == "1":
        raise DataError(f"the data of corpus {name} is not available; {_remedies(public)}")
    return _corpus(Path(public.hub), _hub_rows(public), public.hub_layout)


def _from_file(name: str, file: Path) -> Corpus:
    public = PUBLIC[name]
    if not file.is_file():
        raise DataError(f"corpus {name}: FEDLORA_DATA is set, but {file} does not exist; {_remedies(public)}")
    return _corpus(file, read_rows(file), public.layout)


def _remedies(public: Public) -> str:
    return (
        f"set FEDLORA_DATA to a folder that has {public.file} with the columns {', '.join(public.layout.columns)}; "
        f"or unset it, pip install datasets, and set HF_HUB_OFFLINE=0 to load {public.hub} from the Hugging Face hub"
    )


def _hub_rows(public: Public) -> tuple[Row, ...]:
    try:
        table = import_module("datasets").load_dataset(public.hub, split="train").to_list()
    except Exception as error:  # The libraries that load from the hub raise many kinds of exceptions.
        reason = shorten(str(error), 200, placeholder=" ...")
        raise DataError(f"cannot load {public.hub} from the hub: {reason}; {_remedies(public)}") from error
    return tuple(Row(number, _digits_as_text(fields)) for number, fields in enumerate(table, 1))


def _digits_as_text(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields with each whole number, such as of a class, as its digits."""
    return {key: str(value) if type(value) is int else value for key, value in fields.items()}


def _corpus(file: Path, rows: Sequence[Row], layout: Layout) -> Corpus:
    found = column_names(rows)
    if missing := [column for column in layout.columns if column not in found]:
        raise DataError(f"{file} has the columns {', '.join(found)}, but not {', '.join(missing)}; rename or add them")
    kept = ((row.line, row) for row in rows if layout.keep(row.fields))
    return from_jsonl(to_jsonl(read_each(file, kept, partial(_ours, layout))))


def _ours(layout: Layout, row: Row) -> dict[str, str]:
    theirs = {column: read_text(row.fields, column) for column in layout.columns}
    return {column: template.format_map(theirs) for column, template in layout.templates.items()}
