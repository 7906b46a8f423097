"""Keeps `status.json` in a run's folder as it is now (`server.monitoring.status_file`)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from server.monitoring.status_file import REFUSALS, Traffic, live_nodes, unknown_node, write_status
from server.rounds.observer import RunObserver

BEAT = 2.0
"""Seconds between two writings while nothing happens, which show that the server runs."""


def _utc() -> datetime:
    return datetime.now(UTC)


class ServerStatus(RunObserver):
    """Writes the file anew, whole, at each event. Times are ISO 8601 in UTC.

    Args:
        folder: of the run.
        traffic: of its grid.
        listen: where nodes find the server.
        health: where its health service is.
    """

    def __init__(
        self, folder: Path, traffic: Traffic, listen: str, health: str, clock: Callable[[], datetime] = _utc
    ) -> None:
        self._folder, self._traffic, self._clock = folder, traffic, clock
        self._now: dict[str, Any] = {"round": 0, "rounds": 0, "phase": "starting", "done": 0, "of": 0}
        self._now |= {"listen": listen, "health": health, "started": self._time()}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._refusals: dict[tuple[str, str], dict[str, Any]] = {}
        self._told, self._writing = self._copy(), Lock()

    def restore(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Count what passed in the committed rounds of a run that goes on."""
        for entry in entries:
            self._count(entry["metrics"])

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Also write while nothing happens, in a thread of its own."""
        ended = Event()

        def beat() -> None:
            while not ended.wait(BEAT):
                self._save()

        thread = Thread(target=beat, name="status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def on_waiting(self, connected: int, needed: int) -> None:
        """Too few nodes to begin."""
        self._write(phase="waiting", done=connected, of=needed)

    def on_run_started(self, rounds: int, done: int) -> None:
        """Enough nodes."""
        self._write(phase="started", round=done, rounds=rounds, done=0, of=0)

    def on_round_started(self, number: int, clients: int) -> None:
        """Nodes train."""
        self._write(phase="training", round=number, done=0, of=clients)

    def on_client_done(self, name: str, status: str) -> None:
        """A node's reply is there, or will not come."""
        self._node(name)["status"] = status
        self._write(done=self._now["done"] + 1)

    def on_evaluating(self, count: int) -> None:
        """Nodes measure."""
        self._write(phase="evaluating", done=0, of=count)

    def on_round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """The round will be tried again, or the run ends."""
        for name, reason in reasons.items():
            self._refuse(name, reason, number)
            self._node(name)["reason"] = reason
        self._write(phase="abandoned", round=number, done=0, of=0)

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """A round is on disk."""
        self._count(record)
        last = record["round"] == self._now["rounds"]
        self._write(phase="finished" if last else "committed", round=record["round"], done=0, of=0)

    def _count(self, record: Mapping[str, Any]) -> None:
        for client in record["clients"]:
            node = self._node(client["name"])
            node |= {key: client[key] for key in ("rank", "status", "reason")}
            node["bytes_up"] += client["bytes_up"]
            node["bytes_down"] += client["bytes_down"]
            if client["reason"]:
                self._refuse(client["name"], client["reason"], record["round"])

    def _node(self, name: str) -> dict[str, Any]:
        return self._nodes.setdefault(name, unknown_node(name))

    def _refuse(self, name: str, reason: str, number: int) -> None:
        before = self._refusals.pop((name, reason), {"count": 0})
        self._refusals[name, reason] = {"name": name, "reason": reason, "count": before["count"] + 1, "round": number}
        while len(self._refusals) > REFUSALS:
            del self._refusals[next(iter(self._refusals))]

    def _time(self) -> str:
        return self._clock().isoformat(timespec="seconds")

    def _write(self, **now: Any) -> None:
        self._now |= now
        self._told = self._copy()
        self._save()

    def _copy(self) -> dict[str, Any]:
        """What the thread that beats may read while more happens."""
        nodes = {name: dict(node) for name, node in self._nodes.items()}
        return self._now | {"nodes": nodes, "refusals": list(self._refusals.values())}

    def _save(self) -> None:
        with self._writing:
            write_status(self._folder, live_nodes(self._told, self._traffic) | {"updated": self._time()})
