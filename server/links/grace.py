"""How long the nodes of a request are waited for, once enough replies count."""

import time
from math import inf

LEAST_GRACE = 60.0
"""Seconds that a node may report nothing, at least, where the operator does not set them."""


class Grace:
    """How long nodes that report nothing are waited for, once enough replies count.

    Args:
        enough: number of replies that count.
        seconds: from then, or from a node's last report if that is later; None waits for the messenger's deadline.

    `silent` has the numbers of the nodes that did not answer and reported nothing for that time; `slowest` the seconds
    of the slowest reply that counts, from the making of this.
    """

    def __init__(self, enough: int, seconds: float | None) -> None:
        self._missing, self._seconds = enough, seconds
        self._began, self._since, self.slowest = time.monotonic(), inf, 0.0
        self.silent: set[int] = set()

    def count(self) -> None:
        """Count a reply that counts."""
        now, self._missing = time.monotonic(), self._missing - 1
        self.slowest = now - self._began
        if self._missing == 0:
            self._since = now

    def is_over(self, node: int, reported: float | None) -> bool:
        """Return whether this node, which last reported at this time of `time.monotonic`, is given up, and note it."""
        if self._seconds is None or time.monotonic() < max(self._since, reported or -inf) + self._seconds:
            return False
        self.silent.add(node)
        return True

    def note_missed(self, node: int, reported: float | None) -> None:
        """Note that a node has missed the deadline; it was silent if it did not report shortly before."""
        if reported is None or time.monotonic() >= reported + (self._seconds or LEAST_GRACE):
            self.silent.add(node)
