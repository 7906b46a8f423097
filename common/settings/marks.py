"""Marks on a field of settings: whether the key decides a run's result, and what runs did that began without it.

A field without a mark decides: a forgotten mark refuses to resume a run, and never mixes two.

    workers: Annotated[Count, OPERATIONAL] = 2
    evaluate_every: Annotated[Count, AddedLater(before=1)] = 5
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, is_dataclass
from typing import Any, get_args


@dataclass(frozen=True)
class Operational:
    """The key changes no bit of a result, so that a run may resume with another value."""


OPERATIONAL = Operational()


@dataclass(frozen=True)
class AddedLater:
    """The key is younger than runs that may still resume.

    Args:
        before: the value that does what those runs did, as TOML has it; None for an unset key. A run with this value
            has the settings hash that it would have had without the key.
    """

    before: Any


def is_operational(field: "Field[Any]") -> bool:
    """Return whether the field has the mark."""
    return any(isinstance(mark, Operational) for mark in _metadata(field))


def added_later(field: "Field[Any]") -> AddedLater | None:
    """Return the field's mark, if it has one."""
    return next((mark for mark in _metadata(field) if isinstance(mark, AddedLater)), None)


def table_type(field: "Field[Any]") -> type | None:
    """Return the dataclass of a field that is a table, marked or optional too; None for a plain value."""
    return next((kind for kind in _parts(field.type) if isinstance(kind, type) and is_dataclass(kind)), None)


def _metadata(field: "Field[Any]") -> tuple[Any, ...]:
    return getattr(field.type, "__metadata__", ())


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        yield from _parts(part)
