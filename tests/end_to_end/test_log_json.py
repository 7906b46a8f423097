"""`--log-format json`: each line of a real process is one object, to the last."""

import json
import signal

import pytest

from tests.helpers.end_to_end.command import end, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.end_to_end.single_node_project import Clinic


def events(text):
    """Return the words of a log of which each line is an event."""
    return [json.loads(line)["event"] for line in text.splitlines()]


def test_the_error_that_ends_a_server_is_an_event(tmp_path):
    project = NumpyProject(tmp_path)
    project.write_server({"algorithm": "no\u202esuch"})
    with project.serving("--log-format", "json") as server:
        assert end(server).status == 2
    (line,) = project.log_file.read_text().splitlines()
    assert line.isascii()
    assert json.loads(line)["event"] == "error"


def test_another_form_is_refused_by_the_option(tmp_path):
    ended = end(start("server", tmp_path / "server.toml", "--log-format", "xml"))
    assert ended.status == 2
    assert "'text', 'json'" in ended.err


def test_a_node_that_cannot_connect_says_so_to_its_last_line(tmp_path, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    clinic = Clinic(tmp_path)
    clinic.start("127.0.0.1:1").kill()  # writes its file
    process = start("client", "--log-format", "json", tmp_path / "client.toml")
    line = json.loads(process.stderr.readline())
    assert (line["event"], line["server"]) == ("unreachable", "127.0.0.1:1")
    process.send_signal(signal.SIGTERM)
    assert events(end(process).err)[-1] == "stopped"


@pytest.mark.slow
def test_real_nodes_say_each_event_of_a_run(tmp_path):
    project = Project(tmp_path, "train.steps=2", "train.rounds=1")
    server = start("server", "--log-format", "json", project.folder / "server.toml")
    nodes = [start("client", "--log-format", "json", project.node_file(name, like=name)) for name in NODES]
    ends = [end(process) for process in (server, *nodes)]
    assert [ended.status for ended in ends] == [0] * 4, ends
    assert "round-committed" in events(ends[0].err)
    for ended in ends[1:]:
        told = {"connected", "loading", "ready", "training", "step", "update-counts", "run-over"}
        assert told <= {*events(ended.err)} <= told | {"unreachable", "warning"}
