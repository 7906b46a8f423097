"""docs/configuration.md holds what the settings' docstrings say, and a key without a meaning is an error."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from common.settings.marks import OPERATIONAL
from common.settings.reference import FILE, read_meanings, reference, table_lines, type_in_words
from common.settings.types import Address, Count, Name, Names, Positive, Share

ROOT = Path(__file__).parents[3]


@dataclass
class Columns:
    """The columns.

    Args:
        text: column of the text,
            which is learned.
    """

    text: str = "text"


@dataclass
class Inner(Columns):
    """[inner] A table with a key | of its own.

    Args:
        size: rows in a batch.
        kind: `a | b`.

    Raises:
        nothing: not a key.
    """

    size: Annotated[Count, OPERATIONAL] = 4
    kind: str | None = None


@dataclass
class Outer:
    """A file."""

    inner: Inner


@dataclass
class Untold(Columns):
    """A table.

    Args:
        size: rows in a batch.
    """

    size: int = 1
    speed: float = 1.0


@dataclass
class Stale(Columns):
    """A table.

    Args:
        gone: a key of an earlier release.
    """


def test_the_document_is_what_the_docstrings_say_now():
    assert (ROOT / FILE).read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_a_key_is_told_with_type_default_and_meaning_whichever_class_has_it():
    assert list(table_lines(Outer)) == [
        *("", "A file.", "", "### `[inner]`", "", "A table with a key | of its own.", ""),
        *("| key | type | default | meaning |", "| --- | --- | --- | --- |"),
        '| `text` | text | `"text"` | Column of the text, which is learned. |',
        "| `size` ↻ | positive integer | `4` | Rows in a batch. |",
        r"| `kind` | text | not set | `a \| b`. |",
    ]


def test_a_key_without_a_meaning_is_named():
    with pytest.raises(ValueError, match=r"^Untold: no meaning of speed; add a line to `Args:` in its docstring$"):
        list(table_lines(Untold))


def test_a_meaning_without_a_key_is_named():
    with pytest.raises(ValueError, match=r"^Stale: `Args:` in its docstring has gone, which is no key$"):
        list(table_lines(Stale))


def test_a_table_in_a_table_has_a_dotted_name():
    assert "### `[server.inner]`" in table_lines(Outer, ("server",))


def test_a_subclass_may_give_a_key_another_meaning():
    class Renamed(Columns):
        """A table.

        Args:
            text: another meaning.
        """

    assert (read_meanings(Columns), read_meanings(Renamed)) == (
        {"text": "column of the text, which is learned."},
        {"text": "another meaning."},
    )


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str, "text"),
        (bool, "`true` or `false`"),
        (Count, "positive integer"),
        (Positive | None, "positive number"),
        (Share, "number, at least 0, below 1"),
        (Annotated[int, Field(ge=0, le=9), OPERATIONAL], "integer, at least 0, at most 9"),
        (Literal["a", "b", "c"], "`a`, `b` or `c`"),
        (Literal["rank"] | Positive, "`rank` or positive number"),
        (tuple[str, ...], "list of texts"),
        (str | Names, "text or list of texts, at least 1"),
        (Annotated[tuple[Count, ...], Field(min_length=1)], "list of positive integers, at least 1"),
        (Address, "`HOST:PORT`"),
        (Name, "up to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit"),
    ],
)
def test_a_type_is_told_in_words(hint, words):
    assert type_in_words(hint) == words
