"""A node whose disk fills up during a run, over mutual TLS: a file system of its own, filled to the last byte."""

import contextlib
import shutil
import subprocess

import pytest

from client.results.folder import NodeFolder
from tests.helpers.end_to_end.command import call, end, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.simulations.runs import hashes, records

pytestmark = pytest.mark.slow
FULL, *OTHERS = NODES


@pytest.fixture
def disk(tmp_path):
    """Mount a file system of a megabyte."""
    (folder := tmp_path / "disk").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk):
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(512)):
            pass


def run_filling(project, disk):
    """Return the ends of the server and all nodes, and the first node's update as its disk got full."""
    server = project.server()
    full = start("client", project.node_file(FULL, like=FULL, save=True, folder=str(disk)))
    others = [start("client", project.node_file(name, like=name, save=True)) for name in OTHERS]
    said = ""
    while "the global update of round 0 is in" not in said:
        line = full.stderr.readline()
        assert line, said
        said += line
    fill(disk)
    before = (disk / "first" / "update").read_bytes()
    return [end(each) for each in (server, full, *others)], before


def test_it_trains_to_the_end_and_keeps_the_last_whole_update(tmp_path, disk):
    project = Project(tmp_path, "train.rounds=6")
    ended, before = run_filling(project, disk)
    for each in ended:
        assert each.status == 0, each.err
        assert "Traceback" not in each.err
    log = ended[1].err
    assert f"the run's folder in {disk} cannot be written (No space left on device): the run goes on" in log
    counted = [[node["name"] for node in record["clients"]] for record in records(project.run)]
    assert counted[-1] == list(NODES)
    assert (disk / "first" / "update").read_bytes() == before
    saved = NodeFolder.open(disk / "first").update
    assert saved.digest == hashes(project.run)[0]
    other = NodeFolder.open(project.shards / "nodes" / "runs" / OTHERS[0] / "first").update
    assert other.digest == hashes(project.run)[-1]  # control: the others have the last one
    assert call("evaluate", disk / "first").status == 0
    shutil.copytree(disk / "first", tmp_path / "copy")
    assert call("verify", tmp_path / "copy").status == 0
