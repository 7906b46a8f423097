"""A run of summed gradients whose server and nodes are killed at an operation on a file ends with the same bits."""

import shutil
import signal
from multiprocessing import get_context

import pytest

from simulations.simulate import simulate
from tests.chaos.files import FileOperations, kill
from tests.helpers.end_to_end.command import TINY
from tests.helpers.simulations.runs import same_result

SHORT = ("server.algorithm=fedsgd", "train.rounds=3", "train.steps=1", "data.test_rows=8", "workers=1")
MEMORY = "gradient-memory"
RUNS = 6
LONGEST = 120
"""Seconds of a run, at most."""
CLEAN = get_context("forkserver")
"""Makes forks of a process without threads: a fork of this one may wait for ever for a lock of a thread it lacks."""
CLEAN.set_forkserver_preload(["simulations.simulate", "client.app", "server.app"])


def simulate_until(out, operation, part):
    operations = FileOperations(out, operation, kill, part=part)
    operations.install()
    begun = (out / "run" / "config.toml").exists()
    simulate(TINY, [*SHORT], None if begun else "run", out, out / "run" if begun else None)
    (out / "made").write_text(str(operations.made))


def run_until(out, operation, part=""):
    """Run, or resume, in a process that is killed at this operation on files with `part` in their path."""
    out.mkdir(exist_ok=True)
    process = CLEAN.Process(target=simulate_until, args=(out, operation, part))
    process.start()
    process.join(LONGEST)
    process.kill()  # if it has not ended
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a whole run, and how many operations on files it made: all, and those on the memories of nodes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert [run_until(folder / name, 0, part) for name, part in (("all", ""), ("memory", MEMORY))] == [0, 0]
    return folder / "all" / "run", *(int((folder / name / "made").read_text()) for name in ("all", "memory"))


def is_resumed(out, whole, operation, part=""):
    assert run_until(out, operation, part) == -signal.SIGKILL
    assert run_until(out, 0) == 0
    assert same_result(out / "run", whole)
    shutil.rmtree(out)


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_bits(tmp_path, undisturbed):
    whole, count, _ = undisturbed
    for operation in range(1, count, count // RUNS):
        is_resumed(tmp_path / str(operation), whole, operation)


@pytest.mark.slow
def test_killed_where_a_node_keeps_what_it_has_not_sent_it_goes_on_to_the_same_bits(tmp_path, undisturbed):
    whole, _, count = undisturbed
    for operation in range(1, count + 1, max(1, count // RUNS)):
        is_resumed(tmp_path / str(operation), whole, operation, MEMORY)


def test_control_where_a_node_lost_what_it_has_not_sent_other_bits_come(tmp_path, undisturbed):
    whole, count, _ = undisturbed
    assert run_until(tmp_path / "out", count * 3 // 4) == -signal.SIGKILL
    for kept in (tmp_path / "out" / "run" / "nodes").glob(f"*/{MEMORY}"):
        kept.unlink()
    assert run_until(tmp_path / "out", 0) == 0
    assert not same_result(tmp_path / "out" / "run", whole)
