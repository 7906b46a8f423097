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
    for refusal in status.refusals:
        times = "once" if refusal.count == 1 else f"{refusal.count} times"
        where = "when it called" if refusal.round is None else f"last in round {refusal.round}"
        console.print(f"{refusal.name}: {refusal.reason}, {times}, {where}")
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def _headline(status: Status, now: datetime) -> str:
    share = f", {status.done} of {status.of} nodes" if status.of else ""
    ages = f"started {_age(status.started, now)}, updated {_age(status.updated, now)}"
    lost = "" if status.phase == "finished" or _beats(status, now) else "; the server is not running"
    return f"round {status.round}/{status.rounds}: {status.phase}{share}; {ages}{lost}"


def _beats(status: Status, now: datetime) -> bool:
    return _seconds(status.updated, now) <= 5 * BEAT


def _nodes(status: Status, now: datetime) -> Table:
    table = Table(
        "node", "rank", "connected", "state", "last seen", "up", "down", "last reply", box=None, pad_edge=False
    )
    for node in status.nodes:
        words = node.status, node.reason, *_remarks(node)
        reply = " ".join(dict.fromkeys(word for word in words if word)) or "-"
        sizes = decimal(node.bytes_up), decimal(node.bytes_down)
        connected = "yes" if node.connected and _beats(status, now) else "no"
        state = re.sub(r"silent since \S+", "silent", node.state or "-")  # "last seen" has the time
        table.add_row(node.name, str(node.rank or "-"), connected, state, _age(node.last_seen, now), *sizes, reply)
    return table


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
