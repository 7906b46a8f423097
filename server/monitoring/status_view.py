"""`fedlora status`: a run's status as text for a terminal."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from server.monitoring.status import BEAT
from server.monitoring.status_reader import NodeStatus, Status, read_status
from server.settings import read_server

PAUSE = 2.0
"""Seconds between two refreshes, with `--watch`."""
HEADINGS = "node", "rank", "connected", "state", "last seen", "up", "down", "last reply"
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def show_status(file: Path, watch: bool) -> None:
    """Print the status of the server with this file; with `watch`, repeatedly until Ctrl-C.

    Raises:
        ConfigError: the file is wrong, or the server has never been started.
    """
    folder, console = Path(read_server(file).folder), Console()
    while True:
        text = render_status(read_status(folder), datetime.now(UTC), console.width)
        if watch and console.is_terminal:
            console.clear()
        console.print(text, end="", markup=False, highlight=False, emoji=False, soft_wrap=True)
        if not watch:
            return
        time.sleep(PAUSE)


def render_status(status: Status, now: datetime, width: int = 100) -> str:
    """Render the status of a run; ages are as of `now`."""
    console = Console(file=StringIO(), width=width, markup=False, highlight=False, emoji=False, color_system=None)
    console.print(_headline(status, now))
    console.print(_nodes(status, now))
    for line in refusal_lines(status):
        console.print(line)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def _headline(status: Status, now: datetime) -> str:
    lost = "; the server is not running" if is_lost(status, now) else ""
    return f"{progress(status)}; {ages(status, now)}{lost}"


def progress(status: Status) -> str:
    """Return how far the run is."""
    share = f", {status.done} of {status.of} nodes" if status.of else ""
    return f"round {status.round}/{status.rounds}: {status.phase}{share}"


def ages(status: Status, now: datetime) -> str:
    """Return how long ago the server started, and last wrote its status."""
    return f"started {_age(status.started, now)}, updated {_age(status.updated, now)}"


def is_lost(status: Status, now: datetime) -> bool:
    """Return whether the server of an unfinished run is not running."""
    return status.phase != "finished" and not _beats(status, now)


def _beats(status: Status, now: datetime) -> bool:
    return _seconds(status.updated, now) <= 5 * BEAT


def _nodes(status: Status, now: datetime) -> Table:
    table = Table(*HEADINGS, box=None, pad_edge=False)
    for row in node_rows(status, now):
        table.add_row(*row)
    return table


def node_rows(status: Status, now: datetime) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each node, as `HEADINGS` names them."""
    for node in status.nodes:
        words = node.status, node.reason, *_remarks(node)
        reply = " ".join(dict.fromkeys(word for word in words if word)) or "-"
        sizes = decimal(node.bytes_up), decimal(node.bytes_down)
        connected = "yes" if node.connected and _beats(status, now) else "no"
        state = re.sub(r"silent since \S+", "silent", node.state or "-")  # "last seen" has the time
        yield node.name, str(node.rank or "-"), connected, state, _age(node.last_seen, now), *sizes, reply


def refusal_lines(status: Status) -> Iterator[str]:
    """Yield a line for each node and the reason for which it was refused."""
    for refusal in status.refusals:
        times = "once" if refusal.count == 1 else f"{refusal.count} times"
        where = "when it called" if refusal.round is None else f"last in round {refusal.round}"
        yield f"{refusal.name}: {refusal.reason}, {times}, {where}"


def _remarks(node: NodeStatus) -> Iterator[str]:
    if node.clip < 1:
        yield f"clipped to {node.clip:.2g}"
    if node.same_as:
        yield f"same as {node.same_as}"


def _age(time: datetime | None, now: datetime) -> str:
    if time is None:
        return "-"
    seconds = _seconds(time, now)
    size, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{seconds // size} {unit} ago"


def _seconds(time: datetime, now: datetime) -> int:
    return max(0, int((now - time).total_seconds()))
