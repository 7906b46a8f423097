"""A run that is restored from a copy, although its nodes were told of later rounds."""

import shutil
from threading import Event

import pytest

from server.verify import verify_run
from tests.helpers.end_to_end.command import end
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import hashes

pytestmark = pytest.mark.slow


def held_in_round_2(go):
    def wait(kind, asked, reply):
        if kind == "train" and asked.values["round"] == 2:
            assert go.wait(120)
        return reply

    return wait


@pytest.mark.parametrize("options", [(), ("--from-round", "0")])
def test_a_run_goes_on_from_a_copy_by_a_signed_return(options, undisturbed, tmp_path):
    """Without the return the nodes, which were told of later rounds, do nothing."""
    project, go, copy = NumpyProject(tmp_path, patience=10.0), Event(), tmp_path / "copy"
    project.admit_new(node.name for node in HONEST)
    with project.serving() as server:
        nodes = [project.node(node, held_in_round_2(go)) for node in HONEST]
        until(lambda: any(line.startswith("round 2: 3 nodes") for line in project.log), seconds=120)
        shutil.copytree(project.run, copy)
        go.set()
        assert end(server).status == 0
        for node in nodes:
            node.stop()
    assert verify_run(copy)
    shutil.rmtree(project.run)
    shutil.copytree(copy, project.run)
    with project.serving(*options) as server:
        nodes = [project.node(node) for node in HONEST]
        ended = end(server)
        for node in nodes:
            node.stop()
    assert ended.status == (0 if options else 1), project.log_file.read_text()
    assert (hashes(project.run) == hashes(undisturbed.run)) == bool(options)
