"""Found by operating it: a closed terminal stops a server, a node and a simulation as SIGTERM does."""

import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from tests.helpers.end_to_end.command import ROOT, TINY, call, end, settings, start
from tests.helpers.end_to_end.fake_servers import closed_port
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.end_to_end.single_node_project import Clinic
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import hashes, wait_for_line

STOPS = signal.SIGTERM, signal.SIGHUP


def slow(kind, asked, reply):
    """Take a second for each round after the first, so that a signal comes in the middle of one."""
    if kind == "train" and asked.values["round"] > 1:
        time.sleep(1)
    return reply


def listens(project):
    """Return a condition: the server's log says that it listens."""
    return lambda: any("listening at" in line for line in project.log)


def some_slow(numbers):
    """Return them, all but SIGHUP marked as slow: they are the controls."""
    return [pytest.param(each, marks=[pytest.mark.slow] if each is not signal.SIGHUP else []) for each in numbers]


@pytest.mark.parametrize("number", some_slow(STOPS))
def test_found_R9_a_closed_terminal_stops_a_server_as_sigterm_does_and_it_resumes_to_the_same_bits(
    undisturbed, tmp_path, number
):
    project = NumpyProject(tmp_path)
    project.admit_new(node.name for node in HONEST)
    with project.serving() as server, ExitStack() as running:
        for node in HONEST:
            running.callback(project.node(node, slow).stop)
        until(lambda: any("round 1 is committed" in line for line in project.log))
        server.send_signal(number)
        assert server.wait(30) == 0
    assert project.log[-1].endswith(f"with: fedlora server {project.file}")
    assert project.whole_run(HONEST).status == 0
    assert hashes(project.run) == hashes(undisturbed.run)


@pytest.mark.parametrize("number", some_slow(STOPS))
def test_found_R9_a_closed_terminal_stops_a_node_as_sigterm_does(tmp_path, monkeypatch, number):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    process = Clinic(tmp_path).start(f"127.0.0.1:{closed_port()}")
    assert "trying again" in process.stderr.readline()
    process.send_signal(number)
    ended = end(process)
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.endswith("\nstopped\n")


@pytest.mark.parametrize("number", some_slow(STOPS))
def test_found_R9_a_closed_terminal_stops_a_simulation_as_sigterm_does(tmp_path, number):
    brief = settings("train.rounds=500", "train.steps=3", "data.test_rows=20", "workers=1")
    process = start("simulate", TINY, "--out", tmp_path, "--name", "run", *brief)
    wait_for_line(process, tmp_path / "run" / "metrics.jsonl", 2)
    process.send_signal(number)
    ended = end(process)
    assert ended.status == 128 + number
    assert f"interrupted; resume with: fedlora simulate {TINY} --resume {tmp_path / 'run'}" in ended.err
    assert "Traceback" not in ended.err


def test_found_R9_under_nohup_a_closed_terminal_stops_nothing(tmp_path):
    project = NumpyProject(tmp_path)
    project.admit_new(node.name for node in HONEST)
    command = ["nohup", sys.executable, str(ROOT / "fedlora.py"), "server", str(project.file)]
    with project.log_file.open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until(listens(project))
        server.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(2)
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_backup_is_restored_to_the_same_bits(undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    project.admit_new(node.name for node in HONEST)
    with project.serving() as server, ExitStack() as running:
        for node in HONEST:
            running.callback(project.node(node, slow).stop)
        until(lambda: any("round 1 is committed" in line for line in project.log))
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    saved = ["server.toml", "base.toml", "keys", "runs"]  # as docs/operations.md says
    subprocess.run(["tar", "-czf", "backup.tar.gz", *saved], cwd=project.folder, check=True)
    subprocess.run(["rm", "-r", *saved], cwd=project.folder, check=True)
    subprocess.run(["tar", "-xzf", "backup.tar.gz"], cwd=project.folder, check=True)
    assert call("verify", project.run).status == 0
    assert project.whole_run(HONEST).status == 0
    assert hashes(project.run) == hashes(undisturbed.run)
