"""Rows of text as plain mappings, and a corpus: rows with the hash of their content."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CorpusRow = Mapping[str, Any]


@dataclass(frozen=True)
class Corpus:
    """Rows of one data set.

    Args:
        rows: one mapping of column name -> text for each example.
        sha256: hash of the rows as `to_jsonl` writes them.
    """

    rows: tuple[dict[str, str], ...]
    sha256: str


def to_jsonl(rows: Iterable[CorpusRow]) -> bytes:
    """Write rows in UTF-8, one JSON object a line, keys sorted: equal rows give equal bytes; a date becomes text."""
    lines = (json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def from_jsonl(content: bytes) -> Corpus:
    """Read the corpus that `to_jsonl` wrote."""
    rows = tuple(json.loads(line) for line in content.decode().split("\n") if line)
    return Corpus(rows, hashlib.sha256(content).hexdigest())
