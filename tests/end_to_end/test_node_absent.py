"""A node that was away as the run ended gets its adapter when it connects, to this run's server or a later one's."""

import json
import shutil

import pytest
import tomli_w

from client.results.folder import NodeFolder
from common.settings.reader import read_toml
from tests.helpers.common.identity_parties import new_project
from tests.helpers.end_to_end.command import call, end, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.end_to_end.transport import until

pytestmark = pytest.mark.slow
AWAY, *THERE = NODES


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    made.write_server(quorum=2)
    file = made.folder / "server.toml"
    file.write_text(tomli_w.dumps(read_toml(file) | {"keep_days": 1.0}))
    return made


def nodes_end(project, server):
    """Let all nodes but one take part, and return once the server stays for that one."""
    processes = [start("client", project.node_file(name, like=name, save=True)) for name in THERE]
    assert AWAY in read_until(server, "staying up to 1.0 days")
    return processes


def read_until(server, what):
    """Return the first line of a server's log that has these words."""
    said = ""
    while what not in (line := server.stderr.readline()):
        assert line, said
        said += line
    return line


def folder_of(project, name, run="first"):
    return project.shards / "nodes" / "runs" / name / run


def saved(project, name, run="first"):
    return NodeFolder.open(folder_of(project, name, run)).update


def test_it_gets_the_adapter_of_a_server_that_was_stopped_meanwhile_and_the_server_ends(project):
    server = project.server()
    processes = nodes_end(project, server)
    for name in THERE:  # Its owner need not wait for the nodes that are away.
        until((folder_of(project, name) / "report.html").exists)
    server.terminate()
    assert end(server).status == 0
    for process in processes:
        process.terminate()
        end(process)
    again, everyone = (
        project.server(),
        [start("client", project.node_file(name, like=name, save=True)) for name in NODES],
    )
    for ended in map(end, (again, *everyone)):
        assert ended.status == 0, ended.err
    assert saved(project, AWAY) == saved(project, THERE[0])
    assert saved(project, AWAY).signature


@pytest.fixture
def ended(tmp_path):
    """Return a project whose first run has ended; one node had only announced itself in it."""
    made = Project(tmp_path)
    made.write_server(quorum=2)
    server, away = made.server(), start("client", made.node_file(AWAY, like=AWAY, save=True))
    until((folder_of(made, AWAY) / "run.json").exists, seconds=120)
    away.terminate()
    assert end(away).status == 0
    processes = [start("client", made.node_file(name, like=name, save=True)) for name in THERE]
    for process in map(end, (server, *processes)):
        assert process.status == 0, process.err
    assert saved(made, AWAY) is None
    return made


def second_run(project, quorum, names):
    """Start the server of another run, and these nodes."""
    project.write_server(quorum=quorum, run="second")
    return project.server(), [start("client", project.node_file(name, like=name, save=True)) for name in names]


def test_the_server_of_a_later_run_sends_it_before_that_run_begins(ended):
    server, (away,) = second_run(ended, 3, [AWAY])
    until(lambda: NodeFolder.open(folder_of(ended, AWAY)).is_finished, seconds=120)
    for process in (away, server):
        process.terminate()
        end(process)
    assert saved(ended, AWAY) == saved(ended, THERE[0])
    folder = folder_of(ended, AWAY)
    checked = call("verify", folder)
    assert checked.status == 0, checked.err
    assert "signed by the server as the last adapter of the run" in checked.out
    measured = call("evaluate", folder)
    assert measured.status == 0, measured.err
    assert json.loads(measured.out)["count"] > 0


def test_a_server_that_cannot_sign_for_the_project_gives_nothing(ended, tmp_path):
    key = tmp_path / "keys" / "receipt.key"
    key.write_bytes((new_project(tmp_path / "other") / "receipt.key").read_bytes())
    server, (away,) = second_run(ended, 3, [AWAY])
    read_until(server, "has not saved the last adapter of the earlier run first (policy)")
    for process in (away, server):
        process.terminate()
    assert "not signed by the server's key" in end(away).err
    end(server)
    assert saved(ended, AWAY) is None


def test_the_later_run_is_the_same_with_it_and_without(ended, tmp_path):
    """The folder of the first run is damaged in the control, so that nothing is sent."""

    def run():
        server, nodes = second_run(ended, 3, NODES)
        processes = [end(process) for process in (server, *nodes)]
        for process in processes:
            assert process.status == 0, process.err
        return processes[0].err, saved(ended, AWAY, "second")

    log = ended.run / "journal" / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-2] + b"x\n")
    said, without = run()
    assert "an earlier run is not answered for" in said
    assert saved(ended, AWAY) is None
    log.write_bytes(whole)
    shutil.rmtree(tmp_path / "runs" / "second")
    for name in NODES:  # what the nodes were told of that run
        (tmp_path / name / f"{name}.rounds").unlink()
        shutil.rmtree(folder_of(ended, name, "second"))
    said, once_more = run()
    assert f"the last adapter of the earlier run first is saved at {AWAY}" in said
    assert saved(ended, AWAY) == saved(ended, THERE[0])
    assert without == once_more
    page = (folder_of(ended, AWAY) / "report.html").read_text()
    assert "has not signed" not in page
