"""A reader under test: which errors may leave it, and how much it may allocate."""

import re
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutations import CASES, Case

EXAMPLES = 2000
FACTOR = 2
"""Bytes that a reader may allocate for each byte of its input, beside its constant."""

_VARYING = re.compile(r"""/[^ ]*/|[0-9]+|'[^']*'""")
"""What differs between errors of one kind."""

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=False,  # other examples each time; a failure prints what repeats it
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Target:
    """A reader.

    Args:
        make: makes its input from a valid one.
        read: reads the input.
        errors: that it documents.
        constant: bytes that it may allocate beside `FACTOR` times the input.
        valid: input that it reads without an error.
    """

    make: Callable[[Case], Any]
    read: Callable[[Any], object]
    errors: tuple[type[Exception], ...]
    constant: int
    valid: Sequence[Any]

    def attempt(self, data: Any) -> str:
        """Read; return "read", or the error's type and text without what varies.

        Raises:
            AssertionError: it allocated too much, again too: tables of the interpreter itself, such as that of its
                interned strings, grow by megabytes now and then.
        """
        limit = FACTOR * size_of(data) + self.constant
        told, peak = self._read_once(data)
        if peak > limit:
            told, peak = self._read_once(data)
        assert peak <= limit, f"{peak} bytes for an input of {size_of(data)}, at most {limit}"
        return told

    def _read_once(self, data: Any) -> tuple[str, int]:
        """Return what reading told, and the most bytes that it held at a time."""
        tracemalloc.start()
        try:
            self.read(data)
            told = "read"
        except self.errors as error:
            told = f"{type(error).__name__}: {_VARYING.sub('#', str(error))[:60]}"
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return told, peak

    def fuzz(self, settings: settings = many) -> Counter[str]:
        """Read as many changed inputs as the settings say; return how often each thing was told."""
        told: Counter[str] = Counter()

        @settings
        @given(CASES)
        def read_changed(case: Case) -> None:
            told[self.attempt(self.make(case))] += 1

        for data in self.valid:  # also, so that one-off imports and caches count for no example
            self.read(data)
            assert self.attempt(data) == "read"
        read_changed()
        return told


def size_of(data: Any) -> int:
    """Return the bytes of an input, which may be in several pieces; what is not bytes counts as none."""
    return sum(map(size_of, data)) if isinstance(data, list | tuple) else len(data) if isinstance(data, bytes) else 0


def check_depth(told: Counter[str], errors: int, read: float = 0.0) -> None:
    """Check that the changes reached deep enough: so many different errors, and a share that was read in full."""
    assert told.total() >= EXAMPLES
    assert len(told.keys() - {"read"}) >= errors, told.most_common()
    assert told["read"] >= read * told.total(), told.most_common()
