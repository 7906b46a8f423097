"""The end of a run: each node that saves the adapter is sent the last one, one that was away if it comes in time."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from common.log_format import event
from common.protocol.payload import Payload
from server.farewell.earlier_endings import EarlierEndings
from server.farewell.last_update import LastUpdate
from server.links.grace import LEAST_GRACE, Grace
from server.rounds.loop import RoundLoop

PATIENCE = 75.0
"""Seconds to wait for nodes of the last round; one that cannot connect tries again within 30 s, and may just have."""
POLL, DAILY_POLL = 0.1, 1.0
"""Seconds between two looks at who has connected: in that time, and in the days after it."""

log = logging.getLogger(__name__)


class Farewell:
    """Sends the last global update, and tells nodes that the run is over.

    Args:
        loop: of the run, which has ended.
        connected: returns the names of the connected nodes.
        update: returns the last one, signed.
        earlier: sends nodes what earlier runs ended with.
    """

    def __init__(
        self,
        loop: RoundLoop,
        connected: Callable[[], Collection[str]],
        update: Callable[[], LastUpdate],
        earlier: EarlierEndings,
    ) -> None:
        self._loop, self._connected, self._update, self._earlier = loop, connected, update, earlier
        self._asked: set[int] = set()
        self.saved: set[str] = set()

    def send(self) -> None:
        """Send the last global update to the nodes that have become ready, once a connection."""
        participants = self._loop.participants
        participants.refresh()
        ready = {participants.ids[name]: name for name, node in sorted(participants.nodes.items()) if node.saves}
        asked = {number: name for number, name in ready.items() if number not in self._asked}
        now = [asked[number] for number in self._request(asked)] if asked else []
        self._asked |= asked.keys()
        self.saved |= {*now}
        if now:
            what = "the last adapter is saved at %s"
            log.info(what, ", ".join(sorted(now)), extra=event("adapter-saved", nodes=sorted(now)))

    def _request(self, numbers: Iterable[int]) -> list[int]:
        """Ask nodes to save the last global update, and return those that have."""
        update, grace, saved = self._update(), Grace(1, LEAST_GRACE), []
        payloads = dict.fromkeys(numbers, update.to_nodes_of_the_run())
        for number, reply, _ in self._loop.links.request("evaluate", payloads, update.round_id.round, grace):
            saved += [number] if isinstance(reply, Payload) else []
            grace.count()
        return saved

    def wait_for(self, entry: Mapping[str, Any], patience: float = PATIENCE) -> None:
        """Wait until every node whose update is in the last round has connected, and has the adapters if it saves any.

        A node is told of the round when it connects, and that the run is over when the grid closes.
        """
        self.send()
        missing = {client["name"] for client in entry["metrics"]["clients"] if client["update"]} - self._told()
        if missing:
            names = ", ".join(sorted(missing))
            what = "the run is over; waiting up to %g s to tell %s"
            log.info(what, patience, names, extra=event("run-over", missing=names))
        end = time.monotonic() + patience
        while (missing or self._earlier.is_busy) and time.monotonic() < end:
            time.sleep(POLL)
            self.send()
            missing -= self._told()
        if missing:
            names = ", ".join(sorted(missing))
            log.warning(
                "not told that the run is over, and with what: %s", names, extra=event("not-told", missing=names)
            )

    def stay(self, until: float, members: Callable[[], Collection[str]]) -> None:
        """Stay for nodes that were away, until a time in seconds of the epoch or until all members have the adapter."""
        if (left := until - time.time()) <= 0 or self.saved >= {*members()}:
            return
        names = ", ".join(sorted({*members()} - self.saved))
        what = "staying up to %.1f days for %s to fetch the adapter"
        log.info(what, left / 86_400, names, extra=event("staying", missing=names))
        while time.time() < until and not self.saved >= {*members()}:
            time.sleep(DAILY_POLL)
            self.send()

    def _told(self) -> set[str]:
        return {*self._connected()} - {*self._loop.participants.loading()}
