"""Sends the server a node's step reports, now and then, and never waits for it."""

import time
from typing import Any

import grpc

from common.protocol.channel import StepReport

PERIOD = 1.0
"""Seconds between two reports."""
TIMEOUT = 10.0
"""Seconds that a report may take; one that takes longer is given up."""


class StepReports:
    """The reports of one connection.

    Args:
        call: gRPC's method; an older server has none, and is told nothing more.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._message, self._sent = "", 0.0
        self._running: Any = None

    def begin(self, message: str) -> None:
        """Note that the work on the message of this id begins; one that is short is not reported at all."""
        self._message, self._sent = message, time.monotonic()

    def report(self, step: int) -> None:
        """Report a step, unless it is too soon, or the report before it is still on its way."""
        if time.monotonic() - self._sent >= PERIOD and (self._running is None or self._running.done()):
            self._send(step)

    def _send(self, step: int) -> None:
        if self._running is not None and self._running.done() and _is_unknown(self._running):
            self._call = None
        self._sent = time.monotonic()
        if self._call:
            self._running = self._call.future(StepReport(self._message, step).to_json(), timeout=TIMEOUT)


def _is_unknown(report: Any) -> bool:
    return bool(report.code() == grpc.StatusCode.UNIMPLEMENTED)
