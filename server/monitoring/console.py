"""A running server's log: one line for each event that its operator needs to know of."""

import logging
from collections.abc import Mapping
from typing import Any

from server.rounds.observer import RunObserver


class ConsoleLog(RunObserver):
    """Writes one line per event to a logger."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def on_waiting(self, connected: int, needed: int) -> None:
        """Log that too few nodes are connected to begin."""
        self._log.info("%s of %s nodes are connected; waiting for the others", connected, needed)

    def on_run_started(self, rounds: int, done: int) -> None:
        """Log that enough nodes are connected."""
        self._log.info("%s rounds, %s of them done", rounds, done)

    def on_client_done(self, name: str, status: str) -> None:
        """Log that a node's reply arrived, or will not come."""
        self._log.info("%s: %s", name, status)

    def on_round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """Log that too few replies are valid."""
        words = ", ".join(f"{name}: {reason}" for name, reason in reasons.items())
        self._log.warning("attempt %s at round %s is abandoned (%s)", attempt, number, words or "too few nodes")

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Log that a round is on disk."""
        losses = [client["loss_after"] for client in record["clients"] if client["loss_after"] is not None]
        loss = f", mean loss of the nodes {sum(losses) / len(losses):.3f}" if losses else ""
        error = record["aggregation_error"]
        exact = "" if error is None else f", aggregation error {error:.1e}"
        self._log.info("round %s is committed%s%s, %.1f s", record["round"], loss, exact, record["seconds"])
