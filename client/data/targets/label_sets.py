"""Rows with any number of labels: a list of them, or 0 or 1 for each label in their order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.labels import label_names, read_label
from client.data.row_checks import BadRow
from client.data.targets.listed import is_switch, listed
from common.huggingface.own_head import output_names

_SWITCHES = {"0", "1"}


def read_label_set(fields: Mapping[str, Any], column: str, labels: Sequence[str]) -> NDArray[np.float32]:
    """Return 1 for each label that the row has and 0 for the others (C,).

    A list of C zeros and ones is one for each label, unless `0` or `1` is itself a label.

    Raises:
        BadRow: there is no value, or one that is no label.
    """
    value, found = fields.get(column), np.zeros(len(labels), np.float32)
    if value is None or value == "":
        raise BadRow(f"{column!r} is empty; write [] for a row without labels")
    whole = isinstance(value, str) and value in labels
    members = None if whole else listed(value)
    if members is None:
        members = [value]
    elif members and all(map(is_switch, members)) and not _SWITCHES & {*labels}:
        return _switched(members, column, labels)
    for member in members:
        found[_place(member, column, labels, value)] = 1
    return found


def _switched(members: Sequence[Any], column: str, labels: Sequence[str]) -> NDArray[np.float32]:
    if len(members) != len(labels):
        raise BadRow(f"{column!r} has {len(members)} zeros and ones, and there are {len(labels)} labels")
    return np.array(members, np.float32)


def _place(member: Any, column: str, labels: Sequence[str], value: Any) -> int:
    if isinstance(member, list | tuple | Mapping) or member is None:
        raise BadRow(f"{column!r} is {value!r:.80}; write a list of labels, or 0 or 1 for each of {len(labels)} labels")
    try:
        return read_label({column: member}, column, labels)
    except BadRow as reason:
        commas = isinstance(value, str) and "," in value
        hint = "; a comma separates no labels: write | or ; between them, or a list in JSON" if commas else ""
        raise BadRow(f"{reason}{hint}") from None


def label_set_names(values: Iterable[Any]) -> tuple[str, ...]:
    """Return the labels that the sets in a column are made of, sorted as texts.

    Where each row is a list of as many zeros and ones, two or more, the labels have no names.
    """
    kept = [value for value in values if value is not None and value != ""]
    lists = [listed(value) for value in kept]
    sizes = {len(each) if each is not None and all(map(is_switch, each)) else 0 for each in lists}
    if len(sizes) == 1 and (count := sizes.pop()) > 1:
        return output_names(count)
    return label_names(member for value in kept for member in _scalars(value))


def _scalars(value: Any) -> Iterator[Any]:
    """Yield the members of a set; nothing for a single text with a comma, which may be several labels."""
    members = listed(value)
    if members is None:
        members = [] if isinstance(value, str) and "," in value else [value]
    yield from (each for each in members if isinstance(each, str | bool | int | float))


def label_texts(value: Any) -> Iterator[str]:
    """Yield the labels of a set that are texts."""
    members = listed(value)
    yield from (each for each in ([value] if members is None else members) if isinstance(each, str))
