"""What the log says of what peers do: the first of a kind at once, all others of it as one sum a minute.

So nobody fills the log by calling often. A kind is a node and a reason word; both sets are small, since the project's
authority gives the names and this package the words.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from common import log_format
from common.errors import printable

MINUTE = 60.0
"""Seconds for which the events of one kind are summed."""
COUNT = "COUNT"
MOST, OTHERS = 500, "others"
"""Most kinds that are told apart; a peer may have many addresses."""
_LONGEST = 300
"""Most characters of a line's text; a peer may have written some of them."""

log = logging.getLogger(__name__)


@dataclass
class _Kind:
    """Events of one kind.

    Args:
        began: start of its minute, in seconds of the clock.
        level: of its lines.
        sum: the line for several events, with `COUNT` in place of their number.
        said: lines in this minute.
        more: events that no line has told yet.
    """

    began: float
    level: int
    sum: str
    said: int = 0
    more: int = 0


class RefusalLog:
    """Refused calls and replies, and other events that a peer causes; any thread may use it.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, Lock()
        self._kinds: dict[tuple[str, str, str], _Kind] = {}

    def refuse(self, node: str, reason: str, text: str = "", level: int = logging.WARNING) -> None:
        """Note a refusal.

        Args:
            node: name in the caller's certificate; empty if it is unknown.
            reason: one of this package's words.
            text: the line for the first refusal, in place of the usual one.
            level: of the lines.
        """
        who = f"node {node} was" if node else "callers without a name were"
        more = f"{who} refused {COUNT} more times in the last minute: {reason}"
        self.note("refused", node, reason, text or f"node {node} is rejected: {reason}", more, level)

    def note(
        self, event: str, who: str, reason: str, text: str, more: str, level: int, at_once: int = 1, count: int = 1
    ) -> None:
        """Note events of one kind.

        Args:
            event: word for them.
            who: a node's name, or an address.
            reason: one of this package's words.
            text: the line for the first ones.
            more: the line for the others of a minute, with `COUNT` in place of their number.
            level: of the lines.
            at_once: how often in a minute `text` is said.
            count: how many there are.
        """
        with self._lock:
            if (event, who, reason) not in self._kinds and len(self._kinds) >= MOST:
                who, more = OTHERS, more.replace(who, OTHERS) if who else more
            kind = self._kinds.setdefault((event, who, reason), _Kind(self._clock(), level, more))
            if kind.said < at_once:
                kind.said += 1
                _say(level, text, event, who, reason, count)
            else:
                kind.more += count

    def sum_up(self, all_kinds: bool = False) -> None:
        """Say the sums that are a minute old, or all of them, and forget the kinds that did not occur again."""
        with self._lock:
            now = self._clock()
            old = [(key, kind) for key, kind in self._kinds.items() if all_kinds or now - kind.began >= MINUTE]
            for key, kind in old:
                if kind.more:
                    _say(kind.level, kind.sum.replace(COUNT, f"{kind.more:,}"), *key, kind.more)
                    kind.began, kind.more = now, 0
                else:
                    del self._kinds[key]


def _say(level: int, text: str, event: str, who: str, reason: str, count: int) -> None:
    extra = log_format.event(event, node=who, reason=reason, count=count)
    log.log(level, "%s", printable(text[:_LONGEST]), extra=extra)
