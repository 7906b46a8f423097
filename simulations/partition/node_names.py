"""Names of nodes made from the values of a column."""

import re
import unicodedata
from collections.abc import Callable, Iterable

_LENGTH = 64


def node_names(values: Iterable[str]) -> tuple[str, ...]:
    """Return a valid node name for each value: ASCII letters, digits and `._-`, no two equal when case is ignored."""
    taken: dict[str, str] = {}
    for value in values:
        name = _first_free(_slug(value), lambda candidate: candidate.casefold() in taken)
        taken[name.casefold()] = name
    return tuple(taken.values())


def _slug(value: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_only).strip("-._")[:_LENGTH] or "client"


def _first_free(slug: str, is_taken: Callable[[str], bool]) -> str:
    name, number = slug, 1
    while is_taken(name):
        number += 1
        ending = f"-{number}"
        name = slug[: _LENGTH - len(ending)] + ending
    return name
