"""`fedlora status`: a run's status as text for a terminal."""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from server.monitoring.status import BEAT
from server.monitoring.status_file import read_status
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
        console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        if not watch:
            return
        time.sleep(PAUSE)


def render_status(status: Mapping[str, Any], now: datetime, width: int = 100) -> str:
    """Render a status that `server.monitoring.status.ServerStatus` wrote; ages are as of `now`."""
    console = Console(file=StringIO(), width=width, markup=False, highlight=False, color_system=None)
    console.print(_headline(status, now))
    console.print(_nodes(status, now))
    for refusal in status["refusals"]:
        times = "once" if refusal["count"] == 1 else f"{refusal['count']} times"
        where = "when it called" if refusal["round"] is None else f"last in round {refusal['round']}"
        console.print(f"{_plain(refusal['name'])}: {refusal['reason']}, {times}, {where}")
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def _headline(status: Mapping[str, Any], now: datetime) -> str:
    share = f", {status['done']} of {status['of']} nodes" if status["of"] else ""
    ages = f"started {_age(status['started'], now)}, updated {_age(status['updated'], now)}"
    lost = "" if status["phase"] == "finished" or _beats(status, now) else "; the server is not running"
    return f"round {status['round']}/{status['rounds']}: {status['phase']}{share}; {ages}{lost}"


def _beats(status: Mapping[str, Any], now: datetime) -> bool:
    return _seconds(status["updated"], now) <= 5 * BEAT


def _nodes(status: Mapping[str, Any], now: datetime) -> Table:
    table = Table(
        "node", "rank", "connected", "state", "last seen", "up", "down", "last reply", box=None, pad_edge=False
    )
    for node in status["nodes"]:
        words = node["status"], node["reason"], *_remarks(node)
        reply = " ".join(dict.fromkeys(word for word in words if word)) or "-"
        sizes = decimal(node["bytes_up"]), decimal(node["bytes_down"])
        connected = "yes" if node["connected"] and _beats(status, now) else "no"
        state = _plain(node.get("state") or "-")
        state = re.sub(r"silent since \S+", "silent", state)  # "last seen" has the time
        age = _age(node["last_seen"], now)
        table.add_row(_plain(node["name"]), str(node["rank"] or "-"), connected, state, age, *sizes, reply)
    return table


def _remarks(node: Mapping[str, Any]) -> Iterator[str]:
    if node.get("clip", 1) < 1:
        yield f"clipped to {node['clip']:.2g}"
    if node.get("same_as"):
        yield f"same as {_plain(node['same_as'])}"


def _age(time: str | None, now: datetime) -> str:
    if time is None:
        return "-"
    seconds = _seconds(time, now)
    size, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{seconds // size} {unit} ago"


def _seconds(time: str, now: datetime) -> int:
    return max(0, int((now - datetime.fromisoformat(time)).total_seconds()))


def _plain(name: str) -> str:
    """Replace unprintable characters: a rejected node's name may contain anything, and must not move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in name)
