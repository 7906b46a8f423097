"""The observer that keeps `status.json` in a run's folder up to date (`server.monitoring.status_file`)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from server.monitoring.status_file import REFUSALS, Traffic, live_nodes, unknown_node, write_status
from server.rounds.observer import RunObserver

BEAT = 2.0
"""Seconds between two writes while nothing happens; they show that the server is running."""


def _utc() -> datetime:
    return datetime.now(UTC)


class ServerStatus(RunObserver):
    """Rewrites the whole file at each event. Times are ISO 8601 in UTC.

    Args:
        folder: of the run.
        traffic: of its grid.
        listen: address for nodes.
        health: address of the health service.
        members: returns the names of all nodes that may take part.
    """

    def __init__(
        self,
        folder: Path,
        traffic: Traffic,
        listen: str,
        health: str,
        members: Callable[[], Iterable[str]] = tuple,
        clock: Callable[[], datetime] = _utc,
    ) -> None:
        self._folder, self._traffic, self._clock, self._members = folder, traffic, clock, members
        self._now: dict[str, Any] = {"round": 0, "rounds": 0, "phase": "starting", "done": 0, "of": 0}
        self._now |= {"listen": listen, "health": health, "started": self._time()}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._refusals: dict[tuple[str, str], dict[str, Any]] = {}
        self._told, self._writing = self._copy(), Lock()

    def restore(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Count the traffic and rejections of the committed rounds of a resumed run."""
        for entry in entries:
            self._count(entry["metrics"])

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Also write while nothing happens, in a separate thread, while the block runs."""
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

    def on_waiting(self, states: Mapping[str, str], needed: int) -> None:
        """Write that too few nodes are ready."""
        self._take(states)
        self._write(phase="waiting", done=sum(state.startswith("ready") for state in states.values()), of=needed)

    def on_nodes(self, states: Mapping[str, str]) -> None:
        """Write the state of each node."""
        self._take(states)
        self._write()

    def on_run_started(self, rounds: int, done: int) -> None:
        """Write that enough nodes are ready, or that all rounds are done."""
        self._write(phase="started" if done < rounds else "finished", round=done, rounds=rounds, done=0, of=0)

    def on_round_started(self, number: int, clients: int) -> None:
        """Write that nodes train."""
        self._write(phase="training", round=number, done=0, of=clients)

    def on_client_done(self, name: str, status: str) -> None:
        """Write that a node's reply arrived, or will not come."""
        self._node(name)["status"] = status
        self._write(done=self._now["done"] + 1)

    def on_evaluating(self, count: int) -> None:
        """Write that nodes evaluate."""
        self._write(phase="evaluating", done=0, of=count)

    def on_round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """Write that the round will be tried again, or that the run ends."""
        for name, reason in reasons.items():
            self._refuse(name, reason, number)
            self._node(name)["reason"] = reason
        self._write(phase="abandoned", round=number, done=0, of=0)

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Write that a round is on disk."""
        self._count(record)
        last = record["round"] == self._now["rounds"]
        self._write(phase="finished" if last else "committed", round=record["round"], done=0, of=0)

    def _take(self, states: Mapping[str, str]) -> None:
        for name in {*self._nodes, *states}:
            self._node(name)["state"] = states.get(name)

    def _count(self, record: Mapping[str, Any]) -> None:
        for client in record["clients"]:
            node = self._node(client["name"])
            node |= {key: client[key] for key in ("rank", "status", "reason")}
            node |= {"clip": client.get("clip", 1.0), "same_as": client.get("same_as")}
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
        """Return a copy that the heartbeat thread may read while further events change the original."""
        nodes = {name: dict(node) for name, node in self._nodes.items()}
        return self._now | {"nodes": nodes, "refusals": list(self._refusals.values())}

    def _save(self) -> None:
        with self._writing:
            write_status(
                self._folder, live_nodes(self._told, self._traffic, self._members()) | {"updated": self._time()}
            )
