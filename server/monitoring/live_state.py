"""The live state of a run as JSON, for its page: what `fedlora status` shows, as text."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from server.monitoring.status_reader import Status, read_status
from server.monitoring.status_view import ages, is_lost, node_rows, progress, refusal_lines

REPORT = "report.html"
"""Name of the page in a run's folder."""


def live_state(folder: Path) -> bytes:
    """Return the state of the run in a folder.

    Its keys: `progress`, `ages`, `nodes` (rows of cells) and `refusals`, as `fedlora status` shows them; `lost`, why
    there is no news, else empty; `report`, which changes with the report's file, and is empty without one.
    """
    state = _state(folder) | {"report": _version(folder / REPORT)}
    return json.dumps(state).encode()


def _state(folder: Path) -> dict[str, Any]:
    try:
        return _told(read_status(folder), datetime.now(UTC))
    except ConfigError as error:
        begun = (folder / "status.json").exists()
        why = str(error) if begun else "The run has not begun: no server has been started with this file."
        return {"progress": why, "ages": "", "nodes": [], "refusals": [], "lost": ""}


def _told(status: Status, now: datetime) -> dict[str, Any]:
    since = f"No news since {status.updated.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC: the server is not running."
    return {
        "progress": progress(status),
        "ages": ages(status, now),
        "nodes": list(node_rows(status, now)),
        "refusals": list(refusal_lines(status)),
        "lost": since if is_lost(status, now) else "",
    }


def _version(file: Path) -> str:
    with suppress(FileNotFoundError):
        status = file.stat(follow_symlinks=False)
        return f"{status.st_mtime_ns}-{status.st_size}"
    return ""
