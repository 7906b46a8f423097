"""`status.json` in a run's folder: what `fedlora status` shows of a server that runs, or of one that has ended."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from server.observer import Observer

FILE = "status.json"
_KEYS = {"round", "rounds", "phase", "done", "of", "nodes", "refusals", "started", "updated"}
REFUSALS = 50
"""Most refusals that are kept; the oldest go first."""

log = logging.getLogger(__name__)


def _utc() -> datetime:
    return datetime.now(UTC)


class Status(Observer):
    """Writes the file anew, whole, at each event. Times are ISO 8601 in UTC."""

    def __init__(self, folder: Path, clock: Callable[[], datetime] = _utc) -> None:
        self._file, self._clock = folder / FILE, clock
        self._now: dict[str, Any] = {"round": 0, "rounds": 0, "phase": "starting", "done": 0, "of": 0}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._refusals: dict[tuple[str, str], dict[str, Any]] = {}
        self._started = self._time()

    def restore(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Count what passed in the committed rounds of a run that goes on."""
        for entry in entries:
            self._count(entry["metrics"])

    def waiting(self, connected: int, needed: int) -> None:
        """Too few nodes to begin."""
        self._write(phase="waiting", done=connected, of=needed)

    def started(self, rounds: int, done: int) -> None:
        """Enough nodes."""
        self._write(phase="started", round=done, rounds=rounds, done=0, of=0)

    def round_started(self, number: int, clients: int) -> None:
        """Nodes train."""
        self._write(phase="training", round=number, done=0, of=clients)

    def client_done(self, name: str, status: str) -> None:
        """A node's reply is there, or will not come."""
        self._node(name)["status"] = status
        if status != "absent":
            self._node(name)["last_seen"] = self._time()
        self._write(done=self._now["done"] + 1)

    def evaluating(self, count: int) -> None:
        """Nodes measure."""
        self._write(phase="evaluating", done=0, of=count)

    def round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """The round will be tried again, or the run ends."""
        for name, reason in reasons.items():
            self._refuse(name, reason, number)
            self._node(name)["reason"] = reason
        self._write(phase="abandoned", round=number, done=0, of=0)

    def round_committed(self, record: Mapping[str, Any]) -> None:
        """A round is on disk."""
        self._count(record)
        for client in record["clients"]:
            if client["loss_after"] is not None:
                self._node(client["name"])["last_seen"] = self._time()
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
        fresh = {"name": name, "rank": None, "last_seen": None, "bytes_up": 0, "bytes_down": 0}
        return self._nodes.setdefault(name, fresh | {"status": None, "reason": None})

    def _refuse(self, name: str, reason: str, number: int) -> None:
        before = self._refusals.pop((name, reason), {"count": 0})
        self._refusals[name, reason] = {"name": name, "reason": reason, "count": before["count"] + 1, "round": number}
        while len(self._refusals) > REFUSALS:
            del self._refusals[next(iter(self._refusals))]

    def _time(self) -> str:
        return self._clock().isoformat(timespec="seconds")

    def _write(self, **now: Any) -> None:
        """A status that cannot be written must not end the run."""
        self._now |= now
        nodes = [self._nodes[name] for name in sorted(self._nodes)]
        times = {"started": self._started, "updated": self._time()}
        status = self._now | {"nodes": nodes, "refusals": list(self._refusals.values())} | times
        temporary = self._file.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(status), encoding="utf-8")
            temporary.replace(self._file)
        except OSError as error:
            log.warning("cannot write %s: %s", self._file, error.strerror)


def read_status(folder: Path) -> dict[str, Any]:
    """The status of the run in a folder.

    Raises:
        ConfigError: there is none, or it is no status.
    """
    file = folder / FILE
    try:
        status: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}; start the server first") from None
    except ValueError as error:
        raise ConfigError(f"{file} is not valid JSON: {error}; start the server again, which writes it anew") from None
    if not isinstance(status, dict) or not status.keys() >= _KEYS:
        raise ConfigError(f"{file} is no status; start the server again, which writes it anew")
    return status
