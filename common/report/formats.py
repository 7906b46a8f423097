"""Numbers as short text for people; a missing number is a dash."""

from collections.abc import Sequence
from itertools import pairwise

_NONE = "–"
_SPANS = 12
"""Most runs of numbers that are spelt."""


def decimal(value: float | None) -> str:
    """Return three decimal places, as for a loss; a number too long for that in two significant digits."""
    if value is None:
        return _NONE
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.2g}"


def percent(value: float | None) -> str:
    """Return a share in percent with one decimal place."""
    return _NONE if value is None else f"{value:.1%}"


def small(value: float | None) -> str:
    """Return two significant digits, as for an error: `3.1e-16`."""
    return _NONE if value is None else f"{value:.2g}"


def size(count: float | None) -> str:
    """Return bytes in decimal units: `1.2 MB`."""
    if count is None:
        return _NONE
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:  # what would round to 1000
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float | None) -> str:
    """Return a time such as `14.2 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds is None:
        return _NONE
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def spans(numbers: Sequence[int]) -> str:
    """Return rising whole numbers with runs joined: `1–3, 7`; of many runs the first and how many numbers follow."""
    pairs = list(pairwise(numbers))
    starts = [*numbers[:1], *(after for before, after in pairs if after != before + 1)]
    ends = [*(before for before, after in pairs if after != before + 1), *numbers[-1:]]
    spelt = [str(a) if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True)]
    if len(spelt) <= _SPANS:
        return ", ".join(spelt)
    rest = sum(number >= starts[_SPANS] for number in numbers)
    return f"{', '.join(spelt[:_SPANS])} and {rest} more"
