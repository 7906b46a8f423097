"""Rows with numbers to learn: one, or one for each output of the model."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.row_checks import BadRow
from client.data.targets.listed import listed

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)
_REMEDY = 'for labels, set problem_type = "single_label_classification" (in a recipe: [data] problem_type)'


def read_numbers(fields: Mapping[str, Any], column: str, outputs: Sequence[str]) -> NDArray[np.float32]:
    """Return the number of each output (C,).

    Raises:
        BadRow: there is none, one that is no finite number, or not one for each output.
    """
    value = fields.get(column)
    if value is None or value == "":
        raise BadRow(f"{column!r} is empty")
    members = listed(value)
    found = [_finite(each, column) for each in ([value] if members is None else members)]
    if len(found) != len(outputs):
        names = f"{len(outputs)} output{'s' * (len(outputs) != 1)} ({', '.join(outputs[:8])})"
        raise BadRow(f"{column!r} has {len(found)} numbers for {names}; set labels to a name for each output")
    return np.array(found, np.float32)


def _finite(value: Any, column: str) -> float:
    number = as_number(value)
    if number is None and isinstance(value, str) and _NOT_FINITE.fullmatch(value.strip()):
        number = float(value)
    if number is None:
        raise BadRow(f"{column!r} is {value!r:.80}, which is no number{_hint(value)}; {_REMEDY}")
    if not isfinite(number) or abs(number) > _LARGEST:
        raise BadRow(f"{column!r} is {value!r:.80}, which is no finite number of 32 bits; correct or remove the row")
    return number


def _hint(value: Any) -> str:
    comma = isinstance(value, str) and _NUMBER.fullmatch(value.strip().replace(",", ".", 1))
    return " (write a point for the comma)" if comma else ""


def as_number(value: Any) -> float | None:
    """Return the number that a value is, also where it is a text that reads as one; None for any other."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # An integer of any size.
        return float("inf")


def count_outputs(values: Iterable[Any]) -> int:
    """Return how many numbers the first row that has some has; 1 if none does."""
    for value in values:
        members = listed(value)
        if (members is None and as_number(value) is not None) or (members and as_number(members[0]) is not None):
            return 1 if members is None else len(members)
    return 1
