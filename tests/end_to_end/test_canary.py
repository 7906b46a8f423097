"""Nothing of a node's rows, paths and errors reaches the server: a secret in all of them occurs neither in what it
receives over the real link, nor in its folder, nor in its log.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.settings import read_node
from server.transport.grid import GrpcGrid
from server.transport.service import Service
from tests.helpers.end_to_end.command import ROOT, end, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.end_to_end.recorder import record
from tests.helpers.end_to_end.throwaway_ca import TestAuthority
from tests.helpers.end_to_end.transport import OPEN, ask, content, nodes, until
from tests.helpers.simulations.runs import records

pytestmark = pytest.mark.slow
SECRET = "canary-4711"
OTHERS = {"unable": {"base": "no-base"}, "failing": {}, "strict": {"policy": {"max_steps": 1}}}
"""Nodes that do not train: one has no base, one has a damaged one, one allows less than is asked."""
CANNOT = {"unable": 2, "failing": 2}
"""Status of those that end at once."""


def occurs(word, data):
    """Return whether the word occurs in the data, as it is or as JSON encodes bytes."""
    return word.encode() in data or word.encode().hex().encode() in data


def files_under(folder):
    return b"".join(str(path).encode() + path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def start_node(project, folder, name, like="client-00", **changes):
    """`fedlora client` of a node of the project in a folder of its own; each of its rows has the secret in it."""
    known = read_node(project.shards / "nodes" / f"{like}.toml")
    keys = shutil.copytree(project.folder / name, folder / "keys")
    shutil.copytree(known.base.path, folder / "base", dirs_exist_ok=True)
    with Path(known.data.path).open() as rows, (folder / "rows.jsonl").open("w") as secret:
        for row in map(json.loads, rows):
            secret.write(json.dumps(row | {"text": f"{SECRET} {row['text']}"}) + "\n")
    own = {"rank": 4, "base": "base", "data": "rows.jsonl"}  # one rank, so that they may come in any order
    file = project.node_file(name, like=like, keys=keys, **own | changes)
    return start("client", file.rename(folder / "client.toml"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project after a whole run, with all that its server received, and the ends of its processes."""
    folder, nodes = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("nodes") / SECRET
    project = Project(folder / "project")
    for name in OTHERS:
        project.admit(name)
    words = [
        sys.executable,
        "-m",
        "tests.helpers.end_to_end.recorder",
        project.folder / "server.toml",
        folder / "received",
    ]
    server = subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    processes = {name: start_node(project, nodes / name, name, like=name) for name in NODES}
    processes |= {name: start_node(project, nodes / name, name, **changes) for name, changes in OTHERS.items()}
    (nodes / "failing" / "base" / "model.safetensors").write_bytes(b"damaged")  # before it has connected
    project.server_end, project.ends = end(server), {name: end(process) for name, process in processes.items()}
    project.received = (folder / "received").read_bytes()
    return project


def everything(project):
    """All that the server has of its nodes, by where."""
    log = project.server_end.out + project.server_end.err
    return {"received": project.received, "folder": files_under(project.run), "log": log.encode()}


def test_the_run_is_as_it_should_be(project):
    assert project.server_end.status == 0, project.server_end
    assert {name: ended.status for name, ended in project.ends.items() if ended.status} == CANNOT, project.ends
    reasons = {node["name"]: node["reason"] for record in records(project.run) for node in record["clients"]}
    told = {"failing": "model"} if "failing" in reasons else {}  # It ends at once, so that no round may have met it.
    assert reasons == dict.fromkeys(NODES) | {"strict": "policy"} | told
    assert occurs('"model"', project.received)


def test_the_secret_is_nowhere_at_the_server(project):
    assert [place for place, data in everything(project).items() if occurs(SECRET, data)] == []


def test_control_what_may_leave_is_everywhere_at_the_server(project):
    assert all(occurs("client-00", data) for data in everything(project).values())


@pytest.mark.parametrize("name", OTHERS)
def test_control_the_secret_is_in_the_nodes_own_log(project, name):
    assert occurs(SECRET, project.ends[name].err.encode())


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()])
def test_control_a_secret_that_is_sent_is_found(tmp_path, monkeypatch, secret):
    for method in ("_open", "_reply"):
        monkeypatch.setattr(Service, method, getattr(Service, method))  # undone at the end
    received = []
    record(received.append)
    authority = TestAuthority()
    grid = GrpcGrid("127.0.0.1:0", authority.server(), OPEN, tmp_path)
    with nodes(grid.port, authority, "a", app=lambda m, c: type(m)(content(text=secret), reply_to=m)):
        until(grid.get_node_ids)
        assert len(list(grid.send_and_receive(ask(grid), timeout=30))) == 1
    grid.close(finished=True)
    assert occurs(SECRET, b"".join(received))
