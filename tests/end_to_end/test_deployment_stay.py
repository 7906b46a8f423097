"""A node with `stay = true` takes part in one run after the other, until a signal ends it."""

import signal
import time

import pytest
import tomli_w

from common.settings.reader import read_toml
from tests.helpers.common.identity_parties import NOW, days_ago
from tests.helpers.end_to_end.command import end, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.end_to_end.single_node_project import Clinic
from tests.helpers.simulations.runs import hashes, records

pytestmark = pytest.mark.slow
STAYS, *LEAVE = NODES


def whole_run(project, run, stays):
    """Return the folder of a run of this name, after all nodes that do not stay have left with status 0."""
    file = project.folder / "server.toml"
    file.write_text(tomli_w.dumps(read_toml(file) | {"run": run}))
    processes = [project.server(), *(start("client", project.node_file(name, like=name)) for name in LEAVE)]
    ends = [end(process) for process in processes]
    assert [ended.status for ended in ends] == [0, 0, 0], ends
    assert stays.poll() is None
    return project.run.with_name(run)


def test_a_node_that_stays_takes_part_in_the_next_run(tmp_path):
    project = Project(tmp_path)
    stays = start("client", project.node_file(STAYS, like=STAYS, stay=True))
    runs = [whole_run(project, run, stays) for run in ("first", "second")]
    began = time.monotonic()
    stays.send_signal(signal.SIGTERM)
    ended = end(stays)
    assert time.monotonic() - began < 10
    assert (ended.status, ended.err.count("the run is over")) == (0, 2), ended
    for run in runs:
        assert [[node["status"] for node in record["clients"]] for record in records(run)] == [["ok"] * 3] * 4
    assert hashes(runs[0]) == hashes(runs[1])  # Nothing of the first run is left in the node.


def test_a_node_that_stays_takes_up_its_new_invite_with_the_next_run(tmp_path, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    clinic = Clinic(tmp_path)
    clinic.renew(days_ago(340))
    with clinic.server() as port:
        process = clinic.start_whole(f"localhost:{port}", stay=True)
        assert "expires in" in process.stderr.readline()
        assert "connected" in process.stderr.readline()
        assert "reading base model and data" in process.stderr.readline()
        assert "ready: " in process.stderr.readline()
        clinic.renew(NOW)
    assert "the run is over" in process.stderr.readline()
    assert "expires in" not in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert end(process).status == 0
