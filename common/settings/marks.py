"""Marks on a field of settings: the key does not affect a run's result, or was added after runs began without it.

A field without a mark affects the result: a forgotten mark keeps a run from resuming, but never mixes two runs.

    workers: Annotated[Count, OPERATIONAL] = 2
    evaluate_every: Annotated[Count, AddedLater(before=1)] = 5
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, is_dataclass
from typing import Any, get_args


@dataclass(frozen=True)
class Operational:
    """The key changes no bit of a result, so a run may resume with another value."""


OPERATIONAL = Operational()


@dataclass(frozen=True)
class AddedLater:
    """The key was added after runs began that may still resume.

    Args:
        before: the value that does what those runs did, in TOML's types; None for an unset key. A run with this value
            has the same settings hash as without the key.
        alike: other values with this hash, since what they change is in the run's fingerprint.
    """

    before: Any
    alike: tuple[Any, ...] = ()


def is_operational(field: "Field[Any]") -> bool:
    """Return whether the field is marked as operational."""
    return any(isinstance(mark, Operational) for mark in _metadata(field))


def added_later(field: "Field[Any]") -> AddedLater | None:
    """Return the field's mark as added later, or None."""
    return next((mark for mark in _metadata(field) if isinstance(mark, AddedLater)), None)


def table_type(field: "Field[Any]") -> type | None:
    """Return the dataclass of a field that is a table, even if marked or optional; None for a plain value."""
    return next((kind for kind in _parts(field.type) if isinstance(kind, type) and is_dataclass(kind)), None)


def _metadata(field: "Field[Any]") -> tuple[Any, ...]:
    return getattr(field.type, "__metadata__", ())


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        yield from _parts(part)
