"""`status.json` in a run's folder: what `fedlora status` shows of a server that runs, or of one that has ended."""

import json
import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from common.errors import ConfigError
from server.transport.quota import TrafficMeter

FILE = "status.json"
_KEYS = {"round", "rounds", "phase", "done", "of", "listen", "health", "nodes", "refusals", "started", "updated"}
REFUSALS = 50
"""Most refusals that are kept; the oldest go first."""

log = logging.getLogger(__name__)


class Traffic(Protocol):
    """What a grid knows of its nodes."""

    @property
    def meters(self) -> Mapping[str, TrafficMeter]:
        """Of each node that has ever called, by name."""
        ...

    def names(self) -> Collection[str]:
        """Of the nodes that are connected now."""
        ...


def unknown_node(name: str) -> dict[str, Any]:
    """A node of which nothing is known yet."""
    return {"name": name, "rank": None, "bytes_up": 0, "bytes_down": 0, "status": None, "reason": None}


def live_nodes(told: Mapping[str, Any], traffic: Traffic) -> dict[str, Any]:
    """The status with what its grid knows: who is connected, when each was seen, who was refused at the door."""
    meters, connected = traffic.meters, set() if told["phase"] == "finished" else {*traffic.names()}
    nodes = {name: unknown_node(name) for name in connected} | told["nodes"]
    rows = [
        nodes[name] | {"connected": name in connected, "last_seen": _last_seen(meters.get(name))}
        for name in sorted(nodes)
    ]
    at_door = [
        {"name": name, "reason": reason, "count": count, "round": None}
        for name in sorted(meters)
        for reason, count in dict(meters[name].refused).items()
    ]
    return {**told, "nodes": rows, "refusals": told["refusals"] + at_door[:REFUSALS]}


def _last_seen(meter: TrafficMeter | None) -> str | None:
    return datetime.fromtimestamp(meter.seen, UTC).isoformat(timespec="seconds") if meter and meter.seen else None


def write_status(folder: Path, status: Mapping[str, Any]) -> None:
    """Replace the file in one step; a status that cannot be written must not end the run."""
    temporary = (folder / FILE).with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(status), encoding="utf-8")
        temporary.replace(folder / FILE)
    except OSError as error:
        log.warning("cannot write %s: %s", folder / FILE, error.strerror)


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
