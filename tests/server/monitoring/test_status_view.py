import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.monitoring.status import ServerStatus
from server.monitoring.status_reader import parse_status, read_status
from server.monitoring.status_view import render_status
from tests.helpers.server.traffic import NOBODY

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NODE = {
    "name": "ada",
    "rank": 8,
    "bytes_up": 1_500_000,
    "bytes_down": 20,
    "status": "ok",
    "reason": None,
    "connected": True,
    "state": "ready",
}
STATUS = {
    "round": 3,
    "rounds": 10,
    "phase": "training",
    "done": 1,
    "of": 2,
    "listen": "0.0.0.0:8443",
    "health": "127.0.0.1:8444",
    "nodes": [NODE | {"last_seen": "2026-11-24T11:59:48+00:00"}],
    "refusals": [{"name": "eve", "reason": "policy", "count": 2, "round": 3}],
    "started": "2026-11-24T09:00:00+00:00",
    "updated": "2026-11-24T11:59:59+00:00",
}


def shown(status, now=NOW, width=100):
    """Return a status as a terminal shows it; `status` is the file's JSON."""
    return render_status(parse_status(json.dumps(status).encode(), Path("status.json")), now, width)


def test_it_says_what_is_known():
    first, head, row, refusal = shown(STATUS, NOW).splitlines()
    assert first == "round 3/10: training, 1 of 2 nodes; started 3 h ago, updated 1 s ago"
    assert head.split() == ["node", "rank", "connected", "state", "last", "seen", "up", "down", "last", "reply"]
    assert row.split() == ["ada", "8", "yes", "ready", "12", "s", "ago", "1.5", "MB", "20", "bytes", "ok"]
    assert refusal == "eve: policy, 2 times, last in round 3"


def test_a_clipped_update_and_a_copy_are_told_beside_the_reply():
    row = shown(STATUS | {"nodes": [STATUS["nodes"][0] | {"clip": 0.0123, "same_as": "eve"}]}, NOW, 140)
    assert row.splitlines()[2].endswith("ok clipped to 0.012 same as eve")
    plain = STATUS | {"nodes": [STATUS["nodes"][0] | {"clip": 1.0, "same_as": None}]}
    assert shown(plain, NOW) == shown(STATUS, NOW)


def test_who_was_refused_at_the_door_is_told():
    refusal = {"name": "eve", "reason": "revoked", "count": 1, "round": None}
    assert shown(STATUS | {"refusals": [refusal]}, NOW).splitlines()[-1] == "eve: revoked, once, when it called"


def test_a_server_that_stopped_writing_does_not_run():
    late = {"updated": (NOW - timedelta(seconds=11)).isoformat()}
    first, _, row, _ = shown(STATUS | late, NOW).splitlines()
    assert first.endswith("; the server is not running")
    assert row.split()[2] == "no"
    assert "run" not in shown(STATUS | late | {"phase": "finished"}, NOW).splitlines()[0]


def test_what_is_not_known_is_a_dash():
    unknown = {"rank": None, "last_seen": None, "status": None, "bytes_up": 0, "bytes_down": 0, "state": None}
    row = shown(STATUS | {"nodes": [NODE | unknown], "of": 0}, NOW).splitlines()[2]
    assert row.split() == ["ada", "-", "yes", "-", "-", "0", "bytes", "0", "bytes", "-"]


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(-5, "0 s"), (0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (200_000, "2 d")],
)
def test_an_age_is_in_the_largest_unit(seconds, age):
    assert f"updated {age} ago" in shown(STATUS | {"updated": (NOW - timedelta(seconds=seconds)).isoformat()}, NOW)


def test_a_name_cannot_draw_on_the_terminal():
    nasty = "\x1b[2Jx[red]"
    said = shown(STATUS | {"nodes": [NODE | {"name": nasty, "last_seen": None}]}, NOW)
    assert "\x1b" not in said
    assert "\\x1b[2Jx[red]" in said


def test_it_shows_what_a_run_has_written(tmp_path):
    ServerStatus(tmp_path, NOBODY, "", "", clock=lambda: NOW).on_waiting({"ada": "ready", "bob": "loading"}, 3)
    assert render_status(read_status(tmp_path), NOW).startswith("round 0/0: waiting, 1 of 3 nodes; started 0 s ago")
