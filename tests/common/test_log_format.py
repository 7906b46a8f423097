import json
import logging
import sys

import pytest

from common.log_format import CUT, LINE, LONGEST, JsonFormatter, TextFormatter, last_line

HOSTILE = [
    "a\nb",
    "a\r\nERROR root",
    "\x1b[2J\x1b]0;t\x07",
    "\u202eevil\u2066",
    "\u2028\u2029\x85\x00",
    "\ud800",
    "x" * 10**6,
]


def record(text, *args, **extra):
    made = logging.LogRecord("server.launch", logging.WARNING, "", 0, text, args, extra.pop("exc_info", None))
    vars(made).update(extra)
    return made


def raised():
    try:
        raise ValueError("a\nb\u202e")
    except ValueError:
        return sys.exc_info()


def test_an_event_has_its_word_and_its_fields():
    line = JsonFormatter().format(record("round %s", 3, event="round-started", fields={"round": 3, "loss": 0.5}))
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "warning",
        "logger": "server.launch",
        "event": "round-started",
        "message": "round 3",
        "round": 3,
        "loss": 0.5,
    }


def test_a_call_that_names_no_event_is_one_all_the_same():
    assert json.loads(JsonFormatter().format(record("plain")))["event"] == "log"


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_peer_writes_is_one_valid_bounded_line(text):
    hostile = record("%s", text, event=text, fields={text: text, "event": text, "level": text}, exc_info=raised())
    line = JsonFormatter().format(hostile)
    assert line.isascii() and line.isprintable() and len(line) <= LINE
    told = json.loads(line)
    assert told["level"] == "warning"
    assert all(len(value) <= LONGEST for value in told.values() if isinstance(value, str))


@pytest.mark.parametrize("text", HOSTILE)
def test_as_text_it_is_one_line_too(text):
    line = TextFormatter().format(record("node %s", text))
    assert line.isprintable() and len(line) < 10 * LONGEST


def test_what_is_cut_says_so():
    assert json.loads(JsonFormatter().format(record("x" * 5000)))["message"].endswith(CUT)
    assert json.loads(JsonFormatter().format(record("x" * LONGEST)))["message"] == "x" * LONGEST


def test_numbers_that_json_has_not_are_text():
    fields = {"a": float("nan"), "b": float("inf"), "c": 2**80, "d": True, "e": None, "f": [1, 2], "g": b"\x00"}
    line = JsonFormatter().format(record("x", fields=fields))
    told = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert [told[key] for key in "abcde"] == ["nan", "inf", str(2**80), True, None]


def test_many_fields_are_bounded():
    line = JsonFormatter().format(record("x", fields={str(i): "y" * LONGEST for i in range(1000)}))
    assert len(line) <= LINE
    assert json.loads(line)["cut"] is True


def test_a_traceback_is_one_field_of_the_line_or_indented():
    failed = record("it failed", exc_info=raised())
    line = JsonFormatter().format(failed)
    assert "ValueError" in json.loads(line)["exception"]
    first, *others = TextFormatter().format(failed).splitlines()
    assert first.endswith("it failed")
    assert others and all(other.startswith("    ") for other in others)


def test_the_last_line_of_a_command_has_the_form_of_its_log(monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert last_line("error: x", "error", logging.ERROR) == "error: x"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    told = json.loads(last_line("error: x", "error", logging.ERROR))
    assert (told["event"], told["level"], told["message"]) == ("error", "error", "error: x")
