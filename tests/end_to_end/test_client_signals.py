"""SIGINT and SIGTERM end `fedlora client` with status 0 in less than 10 seconds, whatever it does."""

import json
import signal
import time
from contextlib import contextmanager

import pytest
from flwr.app import Message

from tests.helpers.end_to_end.command import end, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.end_to_end.fake_servers import black_hole, closed_port
from tests.helpers.end_to_end.single_node_project import Clinic
from tests.helpers.end_to_end.transport import content, values_of

pytestmark = pytest.mark.slow
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stopped(process, number):
    """Return the process's output after the signal."""
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
@pytest.mark.parametrize("place", [nowhere, black_hole])
def test_a_node_without_a_server(clinic, place, number):
    with place() as port:
        process = clinic.start(f"127.0.0.1:{port}")
        assert "trying again" in process.stderr.readline()
        time.sleep(1)  # into the next attempt
        stopped(process, number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("phase", ["reading", "idle"])
def test_a_node_that_is_let_in(clinic, phase, number):
    with clinic.server() as port:
        process = clinic.start_whole(f"localhost:{port}")
        while "reading base model and data" not in process.stderr.readline():
            assert process.poll() is None
        if phase == "idle":
            question = Message(content(targets="query-value"), *clinic.grid.get_node_ids(), "query", ttl=60)
            (answer,) = clinic.grid.send_and_receive([question], timeout=60)
            assert values_of(answer)["name"] == "clinic"
        stopped(process, number)


@pytest.fixture
def long(tmp_path):
    """Nodes in a round that takes minutes."""
    project = Project(tmp_path, "train.steps=100000", max_weight=10**7)
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


@pytest.fixture
def alone(tmp_path):
    """Two nodes that train alone after a run, which takes them seconds, and their pages."""
    project = Project(tmp_path, "train.steps=400", "train.rounds=1", max_weight=10**7)
    server = project.server()
    files = [project.node_file(name, like=name, save=True) for name in NODES]
    nodes = [start("client", file, "--local") for file in files]
    yield [(node, file.parent / "runs" / name / "first") for node, file, name in zip(nodes, files, NODES, strict=True)]
    for process in (server, *nodes):
        process.kill()
        end(process)


def test_a_node_that_trains_alone_has_its_page_without_it(alone):
    for (process, folder), number in zip(alone[:2], SIGNALS, strict=True):
        while "training alone" not in process.stderr.readline():
            assert process.poll() is None
        stopped(process, number)
        page = (folder / "report.html").read_text()
        assert "Nothing was trained alone" in page
        assert "Trained alone:" not in page
    process, folder = alone[2]  # control: one that is left to itself
    assert end(process).status == 0
    assert "Trained alone: 400 AdamW steps" in (folder / "report.html").read_text()
