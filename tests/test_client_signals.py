"""SIGINT and SIGTERM end `fedlora client` with status 0 in less than 10 seconds, whatever it does."""

import json
import signal
import time
from contextlib import contextmanager

import pytest

from tests.clinic import Clinic
from tests.command import end
from tests.deployment import Project
from tests.peers import black_hole, closed_port

pytestmark = pytest.mark.slow
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stopped(process, number):
    """What it wrote after the signal."""
    began = time.monotonic()
    process.send_signal(number)
    ended = end(process)
    assert time.monotonic() - began < 10
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.endswith("\nstopped\n")
    return ended


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Clinic(tmp_path)


@contextmanager
def nowhere():
    yield closed_port()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("phase", ["no server", "no answer", "idle"])
def test_a_node_that_waits(clinic, phase, number):
    with {"no server": nowhere, "no answer": black_hole, "idle": clinic.server}[phase]() as port:
        process = clinic.start(f"{'127.0.0.1' if phase == 'no answer' else 'localhost'}:{port}")
        assert ("connected" in process.stderr.readline()) == (phase == "idle")
        time.sleep(1)  # into the next attempt, where there is one
        stopped(process, number)


@pytest.fixture
def long(tmp_path):
    """Nodes in a round that takes minutes."""
    project = Project(tmp_path, "train.steps=100000")
    server, nodes = project.server(), project.clients()
    status = project.run / "status.json"
    while not (status.exists() and json.loads(status.read_text())["phase"] == "training"):
        assert server.poll() is None
        time.sleep(0.05)
    time.sleep(1)  # until the order is with them
    yield nodes
    for process in (server, *nodes):
        process.kill()
        end(process)


def test_a_node_that_trains(long):
    for process, number in zip(long, (*SIGNALS, signal.SIGTERM), strict=True):
        stopped(process, number)
