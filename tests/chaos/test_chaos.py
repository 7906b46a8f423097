"""Plans are functions of their seeds; faults strike where they say; twenty runs under chaos hold."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC
from functools import partial

import pytest

from common.atomic_files import write_file
from server.transport import authorization
from tests.chaos import network
from tests.chaos.plan import AFTER_ROUND, AT_OPERATION, SPOILS, Fault, make_plan
from tests.chaos.processes import start
from tests.chaos.strikes import Strikes
from tests.helpers.end_to_end.command import ROOT
from tests.helpers.end_to_end.numpy_project import NumpyProject

PLANS = [make_plan(seed) for seed in range(400)]


def test_a_plan_is_a_function_of_its_seed():
    assert [make_plan(seed) for seed in range(50)] == PLANS[:50]
    assert len({str(plan) for plan in PLANS}) == len(PLANS)


def test_every_kind_of_fault_is_planned():
    faults = [fault for plan in PLANS for fault in plan.faults]
    assert {fault.kind for fault in faults} == {*AT_OPERATION, *AFTER_ROUND, "reply"}
    assert {fault.value for fault in faults if fault.kind == "reply"} == {*SPOILS}
    assert {plan.server["algorithm"] for plan in PLANS} == {"increments", "fedlin", "fedit", "hetlora"}
    places = Counter(fault.where for fault in faults if fault.kind in AT_OPERATION)
    assert places["server"] > 100 < places["ada"] + places["bob"] + places["cyd"]


def test_a_plan_can_end():
    """Its nodes that are neither revoked nor spoilt are a quorum."""
    for plan in PLANS:
        lost = {fault.where for fault in plan.faults if fault.kind in ("reply", "revoke")}
        assert 1 <= plan.quorum <= len(plan.ranks.keys() - lost)
        assert all(fault.at < plan.rounds for fault in plan.of_rounds())


def write_twice(folder):
    write_file(folder / "data", b"new" * 1000)
    (folder / "log").write_text("a line\n")


def struck(folder, kind, at, value=0.0):
    """Return the exit status of a process with this fault, and what it left."""
    folder.mkdir()
    (folder / "data").write_bytes(b"old")
    process = start(
        partial(write_twice, folder), folder.parent / f"{folder.name}.log", folder, Fault(kind, "", at, value)
    )
    process.join(30)
    left = {path.name.split(".")[-1]: path.read_bytes() for path in folder.iterdir()}
    return process.exitcode, left


OPERATIONS = 8
"""Those of `write_twice`: open, write, fsync, replace, fsync, remove of nothing, open, write."""


@pytest.mark.parametrize("at", range(1, OPERATIONS + 1))
def test_a_kill_strikes_at_each_operation(tmp_path, at):
    status, left = struck(tmp_path / "kill", "kill", at)
    assert status == -signal.SIGKILL
    assert left["data"] == (b"old" if at <= 4 else b"new" * 1000)
    assert "log" not in left or left["log"] == b""


def test_without_an_operation_of_its_number_a_process_ends_as_ever(tmp_path):
    status, left = struck(tmp_path / "kill", "kill", OPERATIONS + 1)
    assert (status, left) == (0, {"data": b"new" * 1000, "log": b"a line\n"})


def test_a_torn_write_leaves_half(tmp_path):
    status, left = struck(tmp_path / "torn", "torn", 2)
    assert (status, left) == (-signal.SIGKILL, {"data": b"old", "tmp": b"new" * 500})
    status, left = struck(tmp_path / "torn-log", "torn", OPERATIONS)
    assert (status, left["log"]) == (-signal.SIGKILL, b"a l")


def test_operations_on_some_files_are_counted_alone(tmp_path):
    status, left = struck(tmp_path / "kill", "kill", 2, "log")
    assert (status, left) == (-signal.SIGKILL, {"data": b"new" * 1000, "log": b""})
    status, left = struck(tmp_path / "torn", "torn", 2, "log")
    assert (status, left) == (-signal.SIGKILL, {"data": b"new" * 1000, "log": b"a l"})
    assert struck(tmp_path / "none", "kill", 3, "log")[0] == 0


@pytest.mark.parametrize("at", [1, 2, 7, 8])
def test_a_full_disk_is_an_error_of_the_operation(tmp_path, at):
    status, left = struck(tmp_path / "full", "full", at, 0.0)
    assert status == 1
    assert "No space left" in (tmp_path / "full.log").read_text()
    assert left["data"] == (b"old" if at <= 2 else b"new" * 1000)
    assert "tmp" not in left


def test_a_clock_jumps_by_hours(tmp_path):
    def tell():
        before = time.time(), time.monotonic(), time.time()
        write_file(tmp_path / "any", b"")
        after = time.time(), time.monotonic(), authorization.datetime.now(UTC).timestamp()
        (tmp_path / "said").write_text(json.dumps([then - now for now, then in zip(before, after, strict=True)]))

    process = start(tell, tmp_path / "log", tmp_path, Fault("clock", "", 1, -5.0))
    process.join(30)
    wall, monotonic, dated = json.loads((tmp_path / "said").read_text())
    assert round(wall / 3600) == round(dated / 3600) == -5
    assert 0 <= monotonic < 1000


def test_what_a_machine_cannot_do_is_skipped_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert network.enter_namespace() == "no ip and no mount"
    assert network.set_queue("netem") == "tc: No such file or directory"
    strikes = Strikes(NumpyProject(tmp_path), {}, None, print, "no ip", "no disk")
    said = [strikes.strike(Fault(kind, "project", 1, 0.1)) for kind in ("lo-down", "netem", "slow", "no-space")]
    assert said == ["no ip", "no ip", "no ip", "no disk"]


@pytest.mark.slow
def test_twenty_runs_hold(tmp_path):
    command = [sys.executable, "-m", "tests.chaos", "--runs", "20", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 of 20 hold" in done.stdout
