"""Pages of a running deployment: made beside the rounds, one at a time, the last one always; a fault is one line."""

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from server.monitoring import run_pages
from server.monitoring.run_pages import RunPages, find_fault
from tests.common.report.test_run_page import write_deployment
from tests.helpers.simulations.metrics import rounds


def wait_until(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def run(tmp_path):
    return write_deployment(tmp_path / "run", rounds(2))


def test_a_round_has_its_page_as_the_run_ends(run):
    (run / "metrics.jsonl").rename(run / "later")
    pages = RunPages(run)
    with pages.making():
        (run / "later").rename(run / "metrics.jsonl")
        pages.on_round_committed({"round": 2})
    assert "MiniLM" in (run / "report.html").read_text()


def test_a_resumed_run_has_its_page_before_its_next_round(run, monkeypatch):
    monkeypatch.setattr(run_pages, "FIRST", 0.1)
    with RunPages(run).making():
        wait_until((run / "report.html").exists)


def test_a_run_without_rounds_has_none(tmp_path):
    with RunPages(tmp_path).making():
        pass
    assert [*tmp_path.iterdir()] == []


def test_rounds_that_end_while_a_page_is_made_share_the_next_one(run, monkeypatch):
    made, going, both = [], threading.Event(), threading.Event()

    def make(folder):
        made.append(folder)
        going.set()
        assert both.wait(30)
        return ""

    monkeypatch.setattr(run_pages, "find_fault", make)
    monkeypatch.setattr(run_pages, "FIRST", 0)
    pages = RunPages(run)
    with pages.making():
        assert going.wait(30)
        for number in range(3, 9):
            pages.on_round_committed({"round": number})
        both.set()
    assert made == [run, run]


@pytest.mark.parametrize(("first", "pages"), [(60.0, 1), (0.0, 2)])
def test_the_first_rounds_of_a_server_share_a_page(tmp_path, monkeypatch, first, pages):
    made = []
    monkeypatch.setattr(run_pages, "find_fault", lambda folder: made.append(folder) or "")
    monkeypatch.setattr(run_pages, "FIRST", first)
    new = RunPages(tmp_path)
    with new.making():
        for _ in range(2):
            new.on_round_committed({})
            time.sleep(0.2)
    assert len(made) == pages


def test_a_new_run_has_its_first_page_while_it_goes_on(run, monkeypatch):
    monkeypatch.setattr(run_pages, "FIRST", 0.1)
    (run / "metrics.jsonl").rename(run / "later")
    new = RunPages(run)
    with new.making():
        (run / "later").rename(run / "metrics.jsonl")
        new.on_round_committed({})
        wait_until((run / "report.html").exists)


def test_the_same_fault_is_one_line_and_nothing_is_raised(run, monkeypatch, caplog):
    faults = iter(["No space left on device", "No space left on device", "", "other"])
    monkeypatch.setattr(run_pages, "find_fault", lambda folder: next(faults))
    monkeypatch.setattr(run_pages, "FIRST", 0)
    monkeypatch.setattr(run_pages, "REST", 0)
    pages = RunPages(run)
    with caplog.at_level(logging.WARNING), pages.making():
        for _ in range(3):
            wait_until(lambda: not pages._due)
            pages.on_round_committed({})
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[2] for line in lines] == [
        "No space left on device; the run goes on",
        "other; the run goes on",
    ]


def test_why_a_page_was_not_made_is_known(run, monkeypatch):
    assert find_fault(run) == ""
    (run / "metrics.jsonl").write_text("nonsense\n")
    assert "metrics.jsonl:1 is not JSON" in find_fault(run)
    monkeypatch.setattr(run_pages, "LONGEST", 0.001)
    assert "timed out" in find_fault(run)
    monkeypatch.setattr(run_pages.sys, "executable", "/nowhere/python")
    assert "No such file" in find_fault(run)


def test_a_full_disk_leaves_the_page_before(run):
    """A limit of file sizes stands for it, which the process that makes the page inherits."""
    resource = pytest.importorskip("resource")
    assert find_fault(run) == ""
    before = (run / "report.html").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        assert "File too large" in find_fault(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (run / "report.html").read_bytes() == before
    assert not [*run.glob(".*.tmp")]


def test_nothing_of_the_working_folder_is_imported(run, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert find_fault(run) == ""


def test_the_page_has_the_lowest_priority_and_the_server_keeps_its_own(run):
    before = os.nice(0)
    seen = []

    def watch():
        while not seen or seen[-1] != "end":
            for status in Path("/proc").glob("[0-9]*/stat"):
                try:
                    words = status.read_bytes().rpartition(b")")[2].split()
                    line = (status.parent / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(run).encode() in line:
                    seen.append(int(words[16]))
            if seen and seen[-1] == 19:
                return
            time.sleep(0.005)

    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert find_fault(run) == ""
    thread.join(10)
    assert seen[-1] == 19
    assert os.nice(0) == before
