"""A long reading is shown, a short one is not."""

import io
import logging
import threading
from pathlib import Path

import pytest
from rich.console import Console

from client.data import reading_progress
from client.data.reading_progress import watching

FILE = Path("folder/rows.jsonl")


def shown(terminal: bool) -> str:
    out = io.StringIO()
    with watching(FILE, Console(file=out, force_terminal=terminal, width=80)) as watch:
        for share in (0.0, 0.43, 1.0):
            watch(share)
    return out.getvalue()


def test_a_terminal_shows_a_bar_of_a_long_reading(monkeypatch):
    assert shown(terminal=True) == ""  # control: it was short
    monkeypatch.setattr(reading_progress, "_PATIENCE", -1.0)
    assert "reading rows.jsonl" in shown(terminal=True)


def test_elsewhere_the_log_has_a_line_now_and_then(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    assert shown(terminal=False) == "" and not caplog.records
    monkeypatch.setattr(reading_progress, "_BETWEEN", -1.0)
    assert shown(terminal=False) == ""
    assert [record.getMessage() for record in caplog.records][1] == "reading folder/rows.jsonl: 43 %"
    assert caplog.records[1].event == "reading"


def test_another_thread_draws_no_bar(monkeypatch):
    monkeypatch.setattr(reading_progress, "_PATIENCE", -1.0)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(shown(terminal=True)))
    thread.start()
    thread.join()
    assert found == [""]


def test_the_bar_is_gone_after_an_error(monkeypatch):
    monkeypatch.setattr(reading_progress, "_PATIENCE", -1.0)
    out = io.StringIO()
    with pytest.raises(KeyError), watching(FILE, Console(file=out, force_terminal=True, width=80)) as watch:
        watch(0.5)
        raise KeyError
    assert out.getvalue().count("\x1b[?25h") == 1  # the cursor is back
