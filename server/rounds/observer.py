"""Whoever watches a run: a progress display, a log, a status file."""

from collections.abc import Mapping, Sequence
from typing import Any


class RunObserver:
    """Told what happens; by default it does not care."""

    def on_waiting(self, connected: int, needed: int) -> None:
        """So many nodes are connected, and the run begins with so many."""

    def on_run_started(self, rounds: int, done: int) -> None:
        """A run of so many rounds begins, of which some are done."""

    def on_round_started(self, number: int, clients: int) -> None:
        """So many clients were asked to train."""

    def on_client_done(self, name: str, status: str) -> None:
        """A client's reply was admitted ("ok"), or it was not."""

    def on_evaluating(self, count: int) -> None:
        """So many nodes were asked for their loss under the new global update."""

    def on_round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """An attempt at a round had too few updates; the reasons are by name of the node."""

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """A round is on disk; the record is its line of metrics.jsonl."""


class Observers(RunObserver):
    """Several observers as one."""

    def __init__(self, observers: Sequence[RunObserver]) -> None:
        self._all = observers

    def on_waiting(self, connected: int, needed: int) -> None:
        """Tell all."""
        for each in self._all:
            each.on_waiting(connected, needed)

    def on_run_started(self, rounds: int, done: int) -> None:
        """Tell all."""
        for each in self._all:
            each.on_run_started(rounds, done)

    def on_round_started(self, number: int, clients: int) -> None:
        """Tell all."""
        for each in self._all:
            each.on_round_started(number, clients)

    def on_client_done(self, name: str, status: str) -> None:
        """Tell all."""
        for each in self._all:
            each.on_client_done(name, status)

    def on_evaluating(self, count: int) -> None:
        """Tell all."""
        for each in self._all:
            each.on_evaluating(count)

    def on_round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """Tell all."""
        for each in self._all:
            each.on_round_abandoned(number, attempt, reasons)

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Tell all."""
        for each in self._all:
            each.on_round_committed(record)
