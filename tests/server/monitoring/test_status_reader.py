"""The reader of status.json: any bytes give a bounded, printable status, or one error that names file and key."""

import json
import os
import unicodedata
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common.errors import ConfigError
from server.monitoring.status_file import FILE
from server.monitoring.status_reader import parse_status, read_status
from server.monitoring.status_view import render_status
from tests.server.monitoring.test_status_view import NOW, STATUS

NASTY = "\x1b[2J\x9b31m\u202eevil\u2066\r\n\x07\u2028\x00\u200f"
NODE = STATUS["nodes"][0]
WRONG = {
    "round": ["round", *(STATUS | {"round": each} for each in (True, -1, 1.5, "1", None, 10**30, [], {}))],
    "of": ["of", *(STATUS | {"of": each} for each in ("many", 2**70))],
    "phase": ["phase", *(STATUS | {"phase": each} for each in (None, 3, "x" * 257, ["training"]))],
    "updated": ["updated", *(STATUS | {"updated": each} for each in ("soon", "2026-11-24", "2026-11-24T11:59:48"))],
    "nodes": ["nodes", *(STATUS | {"nodes": each} for each in (None, {}, "ada", [[]], [3], [NODE] * 40_000))],
    "a node": ["nodes.0", *(STATUS | {"nodes": [NODE | each]} for each in (
        {"name": None}, {"rank": True}, {"rank": "8"}, {"bytes_up": -1}, {"connected": "yes"}, {"last_seen": "now"},
        {"status": 7}, {"reason": []}, {"state": {}}, {"same_as": 1}, {"clip": "a"}, {"clip": -1}, {"clip": None},
    ))],
    "refusals": ["refusals", *(STATUS | {"refusals": each} for each in (None, "", [{}], STATUS["refusals"] * 1000))],
    "a key is missing": ["", *({k: v for k, v in STATUS.items() if k != each} for each in STATUS)],
    "no object": ["", None, 3, [], [STATUS], "status"],
}  # fmt: skip
BROKEN = {
    "nothing": b"",
    "cut short": json.dumps(STATUS).encode()[:-1],
    "NaN": json.dumps(STATUS).replace('"round": 3', '"round": NaN', 1).encode(),
    "infinity": json.dumps(STATUS).replace('"round": 3', '"round": 1e999', 1).encode(),
    "a long number": json.dumps(STATUS).replace('"round": 3', '"round": 1' + "0" * 5000, 1).encode(),
    "nested": b'{"round": ' + b"[" * 100_000,
    "a mark of the byte order": b"\xef\xbb\xbf" + json.dumps(STATUS).encode(),
    "UTF-16": json.dumps(STATUS).encode("utf-16"),
    "no UTF-8": json.dumps(STATUS).encode().replace(b"ada", b"\xff\xfe"),
    "half a character": json.dumps(STATUS | {"phase": "\ud800"}).encode(),
}


def drawing(text):
    """Return the characters of a text that a terminal would not simply show."""
    return [each for each in text if unicodedata.category(each)[0] == "C" and each != "\n"]


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_value_is_one_error_that_names_file_and_key(tmp_path, kind):
    key, *contents = WRONG[kind]
    for content in contents:
        (tmp_path / FILE).write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=r"status\.json is not a status file.*start the server again") as caught:
            read_status(tmp_path)
        assert f"file: {key}" in str(caught.value)


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_json_of_ours_is_one_error(tmp_path, kind):
    (tmp_path / FILE).write_bytes(BROKEN[kind])
    with pytest.raises(ConfigError, match=r"status\.json is not .*start the server again"):
        read_status(tmp_path)


def test_a_file_that_is_not_there_or_is_none_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*status.json: No such file.*; start the server first"):
        read_status(tmp_path)
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(ConfigError, match="it is a pipe, not a file"):
        read_status(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / "other").write_text(json.dumps(STATUS))
    (tmp_path / FILE).symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match="it is a symbolic link, not a file"):
        read_status(tmp_path)
    (tmp_path / FILE).unlink()
    with (tmp_path / FILE).open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(ConfigError, match="it has more than"):
        read_status(tmp_path)


def test_no_text_draws_on_the_terminal(tmp_path):
    node = NODE | dict.fromkeys(("name", "status", "reason", "state", "same_as"), NASTY) | {"clip": 0.5}
    texts = dict.fromkeys(("phase", "listen", "health"), NASTY)
    refusal = {"name": NASTY, "reason": NASTY, "count": 1, "round": None}
    status = parse_status(json.dumps(STATUS | texts | {"nodes": [node], "refusals": [refusal]}).encode(), tmp_path)
    assert not drawing(render_status(status, NOW, 500))
    assert not [each for text in texts if (each := drawing(getattr(status, text)))]
    assert "\\x1b[2J\\x9b31m\\u202eevil" in render_status(status, NOW, 500)


def test_a_status_cannot_be_changed():
    status = parse_status(json.dumps(STATUS).encode(), FILE)
    with pytest.raises(AttributeError):
        status.round = 4
    with pytest.raises(AttributeError):
        status.nodes[0].rank = 4
    assert asdict(status)["nodes"][0]["name"] == "ada"  # control


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("2026-11-24T11:59:48+00:00"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*STATUS, *NODE]), inner, max_size=4),
    max_leaves=8,
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from([*STATUS]), json_values, max_size=3), st.dictionaries(st.text(), json_values))
def test_any_json_is_shown_or_refused(changes, more):
    try:
        status = parse_status(json.dumps(STATUS | changes | more).encode(), FILE)
    except ConfigError:
        return
    assert not drawing(render_status(status, NOW))
