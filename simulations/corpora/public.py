"""Public data sets, from a folder of the user's own (`$FEDLORA_DATA/NAME/FILE`), else from the Hugging Face hub."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import Any

from client.checks import BadRow, read_each, require, text_of
from client.rows import Row, columns_of, read_rows
from common.errors import DataError
from simulations.corpora.corpus import Corpus, from_jsonl, to_jsonl

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """How rows of one place become ours.

    Args:
        columns: our column -> a template with the names of theirs in braces.
        keep: which rows are read.
    """

    columns: Mapping[str, str]
    keep: Callable[[Fields], bool] = lambda fields: True

    @property
    def needed(self) -> tuple[str, ...]:
        """Their columns."""
        parts = (part for template in self.columns.values() for part in Formatter().parse(template))
        return tuple(dict.fromkeys(name for _, name, _, _ in parts if name))


@dataclass(frozen=True)
class Public:
    """A data set: its file below `$FEDLORA_DATA`, its id on the hub (split `train`), and their layouts."""

    file: str
    layout: Layout
    hub: str
    hub_layout: Layout


_LONGEST_ANSWER = 800
"""Characters of a MedQuAD answer; longer ones are whole articles."""


def _short(fields: Fields) -> bool:
    return 0 < len(fields.get("answer") or "") <= _LONGEST_ANSWER


def _asked(site: str) -> Mapping[str, str]:
    return {"prompt": "Question: {question}\nAnswer:", "completion": " {answer}", "site": site}


_POLARITY = Layout({"text": "{text}", "label": "{label}"})
PUBLIC: Mapping[str, Public] = MappingProxyType(
    {
        "banking77": Public(  # Casanueva et al., arXiv 2003.04807
            "banking77/train.csv",
            Layout({"text": "{text}", "label": "{category}"}),
            "mteb/banking77",
            Layout({"text": "{text}", "label": "{label_text}"}),
        ),
        "medquad": Public(  # Ben Abacha and Demner-Fushman, BMC Bioinformatics 20:511
            "medquad/medquad_short.jsonl",
            Layout(_asked("{site}"), lambda fields: fields.get("split") == "train" ),
            "lavita/MedQuAD",
            Layout(_asked("{document_source}"), _short),
        ),
        "polarity": Public(  # Pang and Lee, ACL 2005
            "sentence_polarity/train.tsv", _POLARITY, "cornell-movie-review-data/rotten_tomatoes", _POLARITY
        ),
    }
)
