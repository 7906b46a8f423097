"""The memory of a server with 1,000 idle nodes, each connected over mutual TLS with its own certificate.

The nodes are real links in one other process, probe included, that ignore all notices; the server greets each with the
signed roster of all 1,000. The figure is the peak of the whole resident memory of the server's process, from before the
first node to some seconds after the last.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from common.protocol.flower import identify
from common.protocol.payload import Payload
from server.transport.grid import GrpcGrid
from server.transport.listener import raise_open_file_limit
from simulations.bench.measure import Comparison, peak, require, run_in_fresh_process
from simulations.bench.transport.deployment import await_nodes, link, make_project, run_processes, serve_grid
from simulations.bench.transport.members import Pem, admit_all
from simulations.bench.transport.synthetic import echo

NODES = 1000
BOUND = 2**30
PACE = 0.02
"""Seconds between two nodes: if all came at once, some would wait longer than a handshake may take."""
SETTLED = 3.0
"""Seconds that the server is watched after the last node came."""


class Deaf:
    """The auditor of a node that never replies and records nothing."""

    def sign(self, reply: Payload) -> Mapping[str, Any]:
        """Add nothing."""
        return {}

    def on_connect(self) -> None:
        """Ignore a connection."""

    def on_request(self, kind: str, values: Mapping[str, Any]) -> None:
        """Obey a request."""

    def on_notice(self, values: Mapping[str, Any], blob: bytes) -> None:
        """Ignore a notice."""


def measure() -> list[Comparison]:
    """Measure bytes.

    Raises:
        GateError: a node was not connected at the end.
    """
    with TemporaryDirectory() as scratch:
        most, there = run_in_fresh_process(measure_with_nodes, Path(scratch), NODES, SETTLED)
    gate = require(there == NODES, f"{there:,} of {NODES:,} idle nodes are connected at the end")
    return [Comparison(f"peak with {NODES:,} idle nodes", most, BOUND, "bytes", "the bound", at_most=1.0, gate=gate)]


def measure_with_nodes(folder: Path, count: int, seconds: float) -> tuple[int, int]:
    """Return the peak in bytes with `count` nodes, and the number connected `seconds` after the last one came."""
    raise_open_file_limit()
    make_project(folder)
    members = admit_all(folder / "keys", [f"node-{number:04}" for number in range(count)])
    with serve_grid(folder, folder) as grid, run_processes([(_connect, (grid.port, members))]):
        return peak(partial(_settle, grid, count, seconds)), len(grid.names())


def _settle(grid: GrpcGrid, count: int, seconds: float) -> None:
    await_nodes(grid, count)
    time.sleep(seconds)


def _connect(port: int, members: Mapping[str, Pem]) -> None:
    raise_open_file_limit()
    identify()
    for name, pem in members.items():
        Thread(target=link(port, pem, name, 1, echo, Deaf()).run).start()
        time.sleep(PACE)
