"""`status.json` in a run's folder, which `fedlora status` shows: the state of a server that is running or has ended."""

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from common.atomic_files import write_file
from server.transport.quota import TrafficMeter

FILE = "status.json"
REFUSALS = 50
"""Largest number of rejections that are kept; the oldest are dropped first."""

log = logging.getLogger(__name__)


class Traffic(Protocol):
    """A grid's view of its nodes."""

    @property
    def meters(self) -> Mapping[str, TrafficMeter]:
        """Traffic of each node that has ever called, by name."""
        ...

    def names(self) -> Collection[str]:
        """Return the names of the connected nodes."""
        ...


def unknown_node(name: str) -> dict[str, Any]:
    """Return the row of a node of which nothing is known yet."""
    nothing = dict.fromkeys(("rank", "status", "reason", "same_as", "state"))
    return {"name": name, "bytes_up": 0, "bytes_down": 0, "clip": 1.0} | nothing


def live_nodes(told: Mapping[str, Any], traffic: Traffic, members: Iterable[str]) -> dict[str, Any]:
    """Return the status with the grid's data: connected nodes, last contact of each, and rejected calls.

    Args:
        told: what the run's events told.
        traffic: the grid's data.
        members: names of all nodes that may take part.
    """
    meters, connected = traffic.meters, set() if told["phase"] == "finished" else {*traffic.names()}
    nodes = {name: unknown_node(name) for name in {*connected, *members}} | told["nodes"]
    rows = [_live(nodes[name], name in connected, _last_seen(meters.get(name))) for name in sorted(nodes)]
    rejected_calls = [
        {"name": name, "reason": reason, "count": count, "round": None}
        for name in sorted(meters)
        for reason, count in dict(meters[name].refused).items()
    ]
    return {**told, "nodes": rows, "refusals": told["refusals"] + rejected_calls[:REFUSALS]}


def _live(node: Mapping[str, Any], connected: bool, seen: str | None) -> dict[str, Any]:
    """Return a node's row; a state that was told holds while the node is connected."""
    away = f"silent since {seen}" if seen else "not connected yet"
    if (node["state"] or "").startswith("refused"):
        away = f"{node['state']}; {away}"
    state = (node["state"] or "loading") if connected else away
    return {**node, "connected": connected, "last_seen": seen, "state": state}


def _last_seen(meter: TrafficMeter | None) -> str | None:
    return datetime.fromtimestamp(meter.seen, UTC).isoformat(timespec="seconds") if meter and meter.seen else None


def write_status(folder: Path, status: Mapping[str, Any]) -> None:
    """Replace the file atomically; a status that cannot be written must not end the run."""
    try:
        write_file(folder / FILE, json.dumps(status).encode(), durable=False)  # at each event; a crash makes it stale
    except OSError as error:
        log.warning("cannot write %s: %s", folder / FILE, error.strerror)
