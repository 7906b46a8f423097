"""A commit that fails or is killed, at each of its steps: the round before is intact and the next one can be made."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.errors import RunError
from server.algorithms.state import State
from server.storage.journal import Journal
from server.storage.journal_reader import verify_journal
from tests.helpers.common.disk_faults import largest_file
from tests.helpers.server.states import bits, commit, next_state, undisturbed

ROOT = Path(__file__).parents[3]
STEPS = [
    *("open checkpoint", "sync checkpoint", "rename it", "open folder", "sync folder"),
    *("open it to hash it", "open log", "sync log"),
]
STATES = list(itertools.islice(undisturbed(), 4))

Fail = Callable[[], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a journal of two rounds."""
    with Journal.open(tmp_path / "journal") as journal:
        commit(journal)
        commit(journal)
    return tmp_path / "journal"


def raise_io_error() -> None:
    raise OSError(5, "Input/output error")


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(patch: pytest.MonkeyPatch, step: int, fail: Fail, and_after: bool = False) -> list[str]:
    """Let the calls that reach the disk fail from the given one on, or only that one; returns the calls made so far."""
    calls: list[str] = []

    def failing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) - 1 == step or (and_after and len(calls) - 1 > step):
                fail()
            return real(*args, **kwargs)

        return call

    patch.setattr(os, "open", failing("open", os.open))
    patch.setattr(Path, "open", failing("open", Path.open))
    patch.setattr(Path, "replace", failing("rename", Path.replace))
    patch.setattr(os, "fsync", failing("sync", os.fsync))
    return calls


def test_the_checkpoint_is_durable_before_its_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(folder) as journal, monkeypatch.context() as patch:
        calls = at_step(patch, len(STEPS), raise_io_error)
        journal.commit(STATES[2], {})
    assert calls == [step.split()[0] for step in STEPS]


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_leaves_the_log_as_it_was(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = (folder / "log.jsonl").read_bytes()
    with Journal.open(folder) as journal:
        with monkeypatch.context() as patch, pytest.raises(RunError) as error:
            at_step(patch, STEPS.index(step), raise_io_error)
            journal.commit(STATES[2], {})
        for part in (str(folder), "round 2 is not committed", "Input/output error", "round 1 is intact"):
            assert part in str(error.value)
        assert (folder / "log.jsonl").read_bytes() == log
        assert {path.name for path in folder.glob("round-*")} == {"round-000000.state", "round-000001.state"}
        assert bits(journal.last_state()) == bits(STATES[1])
        commit(journal)
    assert len(verify_journal(folder)) == 3


@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_is_gone_costs_no_round(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Journal.open(folder) as journal,
        monkeypatch.context() as patch,
        pytest.raises(RunError, match="round 1 is intact"),
    ):
        at_step(patch, STEPS.index(step), raise_io_error, and_after=True)
        journal.commit(STATES[2], {})
    with Journal.open(folder) as journal:
        last = journal.last_state()
        assert last.round in ((1, 2) if step == "sync log" else (1,))
        assert bits(last) == bits(STATES[last.round])
        assert bits(commit(journal)) == bits(STATES[last.round + 1])


@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_at_a_step_costs_no_round(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.fork()
    if child == 0:
        try:
            with Journal.open(folder) as journal:
                at_step(monkeypatch, STEPS.index(step), kill_this_process)
                journal.commit(STATES[2], {})
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with Journal.open(folder) as journal:
        last = journal.last_state()
        assert last.round == (2 if step == "sync log" else 1)
        assert bits(last) == bits(STATES[last.round])
        assert bits(commit(journal)) == bits(STATES[last.round + 1])


def test_a_line_that_fits_only_in_part_is_taken_back(folder: Path) -> None:
    log = (folder / "log.jsonl").read_bytes()
    note = {"note": "long enough that the line outgrows the checkpoint" * 100}
    with Journal.open(folder) as journal:
        for room in range(0, 5000, 250):
            with largest_file(len(log) + room), pytest.raises(RunError, match="File too large; round 1 is intact"):
                journal.commit(STATES[2], note)
            assert (folder / "log.jsonl").read_bytes() == log
        journal.commit(STATES[2], note)
    assert len(verify_journal(folder)) == 3


def test_a_failure_in_the_first_round_says_that_there_is_none_before(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        with largest_file(99), pytest.raises(RunError, match="no round was committed before"):
            commit(journal)
        commit(journal)
    assert len(verify_journal(tmp_path)) == 1


def test_a_number_that_is_not_finite_costs_no_round(folder: Path) -> None:
    with Journal.open(folder) as journal:
        with pytest.raises(RunError, match=r"not JSON compliant.*round 1 is intact"):
            journal.commit(STATES[2], {"loss": float("nan")})
        assert bits(commit(journal)) == bits(STATES[2])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system, and not in every container")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_costs_no_round(small_disk: Path) -> None:
    def state(number: int) -> State:
        x = np.random.default_rng(number).standard_normal((1, 3000))
        return State(number, {"global": Adapter({"q": Factors(x, np.ones((1, 1)))})})

    with Journal.open(small_disk) as journal:
        journal.commit(state(0), {})
        journal.commit(state(1), {})
        log = (small_disk / "log.jsonl").read_bytes()
        with pytest.raises(RunError, match=r"No space left on device; round 1 is intact"):
            journal.commit(state(2), {})
        assert (small_disk / "log.jsonl").read_bytes() == log
        assert not list(small_disk.glob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    with Journal.open(small_disk) as journal:
        assert np.array_equal(journal.last_state().parts["global"]["q"].a, state(1).parts["global"]["q"].a)
        journal.commit(state(2), {})
    assert len(verify_journal(small_disk)) == 3


def test_a_process_killed_at_any_moment_costs_no_round(tmp_path: Path) -> None:
    moments, log, rounds = random.Random(0), tmp_path / "log.jsonl", 0
    states = undisturbed()
    state = next(states)
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.server.states", str(tmp_path)], cwd=ROOT
        ) as process:
            while not log.exists() or log.read_bytes().count(b"\n") <= rounds:
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.02))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        with Journal.open(tmp_path) as journal:
            assert len(journal.entries) > rounds
            rounds = len(journal.entries)
            while state.round < rounds - 1:
                state = next(states)
            assert bits(journal.last_state()) == bits(state)
            assert bits(journal.last_state()) != bits(next_state(state))
