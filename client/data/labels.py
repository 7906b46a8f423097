"""Labels of rows: which of a task's labels a value is, however the file's format writes it.

A whole number is its digits, also where it is written as 1.0; a truth value is `true` or `false`. Spellings are never
merged without a word: labels that differ only by case, blanks or in the same number are counted and told.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any, TypeGuard

from client.data.row_checks import BadRow, is_filled, read_text
from common.errors import nearest

_WHOLE = re.compile(r"([+-]?[0-9]+)\.0*")
_TRUTH = ("true", "false")
_SHOWN = 5
_WHERE = " (in a recipe: [data] problem_type)"
MOST = 10_000
"""Different values that are counted; a column with more has no labels."""


class ClassNumber(int):
    """The number of a class in a file that also names its classes, as data sets of the Hugging Face hub do."""

    name: str

    @classmethod
    def named(cls, number: int, name: str) -> "ClassNumber":
        """Return the number of the class of this name."""
        value = cls(number)
        value.name = name
        return value


def read_label(fields: Mapping[str, Any], column: str, labels: Sequence[str]) -> int:
    """Return the place among the labels of the value in that column.

    Raises:
        BadRow: it is absent, no label's, or of a type that labels do not have.
    """
    value = fields.get(column)
    spellings = list(_spellings(fields, column))
    found = next((each for each in spellings if each in labels), None)
    if found is None:
        shown = repr(spellings[0] if isinstance(value, str | bool) or type(value) is int else value)
        raise BadRow(f"{column!r} is {shown}, which is not in labels{nearest(spellings[0], labels)}")
    return labels.index(found)


def _spellings(fields: Mapping[str, Any], column: str) -> Iterator[str]:
    """Yield the labels that a value can be, the likeliest first."""
    value = fields.get(column)
    if isinstance(value, bool):
        name = str(value).lower()
        yield from (name, name.capitalize(), name.upper())
    elif isinstance(value, int):
        yield str(int(value))
        if isinstance(value, ClassNumber):
            yield value.name
    elif _is_whole(value):
        yield from (str(int(value)), str(value))
    elif isinstance(value, float | Decimal):
        raise BadRow(
            f"{column!r} is {value}, which is no whole number; labels are texts or whole numbers: for numbers, set "
            f'problem_type = "regression"{_WHERE}'
        )
    elif isinstance(value, list | tuple):
        raise BadRow(
            f"{column!r} is not text but list; for several labels a row, set problem_type = "
            f'"multi_label_classification"{_WHERE}'
        )
    else:
        yield from dict.fromkeys((text := read_text(fields, column), _plain(text)))


def _plain(text: str) -> str:
    """Return a text that is a whole number or a truth value as such, any other as it is."""
    if whole := _WHOLE.fullmatch(text.strip()):
        return str(int(whole[1]))
    return text.strip().lower() if text.strip().lower() in _TRUTH else text


def label_names(values: Iterable[Any]) -> tuple[str, ...]:
    """Return the labels that the values of a column make, sorted as texts.

    Texts alone are labels as they are. Beside numbers or truth values they are such if all of them can be.
    """
    kept = [value for value in values if is_filled(value)]
    texts = {_name(value) for value in kept if isinstance(value, str | int) or _is_whole(value)}
    plain = {_plain(text) for text in texts}
    uniform = plain <= {*_TRUTH} or all(re.fullmatch(r"-?[0-9]+", text) for text in plain)
    only_texts = all(isinstance(value, str) for value in kept)
    return tuple(sorted(plain if uniform and not only_texts else texts))


def _name(value: str | bool | int | float | Decimal) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(int(value))


def _is_whole(value: Any) -> TypeGuard[float | Decimal]:
    return isinstance(value, float | Decimal) and math.isfinite(value) and value % 1 == 0


def similar_labels(column: str, counts: Mapping[str, int]) -> str | None:
    """Return a warning of labels that look alike, with the rows of each; or None.

    They differ only by case, blanks, characters that are not seen, or as `1` and `1.0` do.
    """
    keyed = sorted((_look(text), text) for text in counts if text.strip())
    groups = [[text for _, text in group] for _, group in groupby(keyed, key=lambda each: each[0])]
    alike = [group for group in groups if len(group) > 1]
    if not alike:
        return None
    shown = "; ".join(", ".join(f"{text!r} ({counts[text]})" for text in group) for group in alike[:_SHOWN])
    more = f"; and {len(alike) - _SHOWN} more" if len(alike) > _SHOWN else ""
    what = f"{column!r} has values that differ only by case or blanks (rows): {shown}{more}"
    return f"{what}; write them alike if they are one"


def _look(text: str) -> str:
    seen = (each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) != "Cf")
    return _plain(" ".join("".join(seen).split()).casefold())


def count_labels(counts: Counter[str], labels: Iterable[str]) -> None:
    """Count the labels of some rows."""
    if len(counts) <= MOST:
        counts.update(labels)
