"""The end of a run, for nodes that were away: those that trained in the last round are told, if they come soon."""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from common.log_format import event

PATIENCE = 75.0
"""Seconds to wait for them; a node that cannot connect tries again within 30 s, and may just have started to."""
POLL = 0.1

log = logging.getLogger(__name__)


def await_farewell(
    connected: Callable[[], Collection[str]], entry: Mapping[str, Any], patience: float = PATIENCE
) -> None:
    """Wait until every node whose update is in the last round has connected.

    A node is told of the round when it connects, and that the run is over when the grid closes.
    """
    missing = {client["name"] for client in entry["metrics"]["clients"] if client["update"]} - {*connected()}
    if missing:
        names = ", ".join(sorted(missing))
        log.info(
            "the run is over; waiting up to %g s to tell %s", patience, names, extra=event("run-over", missing=names)
        )
    end = time.monotonic() + patience
    while missing and time.monotonic() < end:
        time.sleep(POLL)
        missing -= {*connected()}
    if missing:
        names = ", ".join(sorted(missing))
        log.warning("not told that the run is over, and with what: %s", names, extra=event("not-told", missing=names))
