"""Changes and int8 in real processes over mutual TLS: the same bits everywhere, and a node that comes back."""

import json
import signal

import pytest

from client.memory.kept_update import KeptUpdate
from common.protocol.frames import FRAME
from tests.helpers.end_to_end.command import call, end, start
from tests.helpers.end_to_end.deployment import project_of
from tests.helpers.simulations.runs import hashes, records, wait_for_line

pytestmark = pytest.mark.slow

FEW = {"rank_change": 8, "rank_global": 64, "wire": "int8", "keep_updates": "all", "evaluate_every": 5}
ROUNDS = 5


def made(folder):
    return project_of(folder, FEW, f"train.rounds={ROUNDS}")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project whose run has ended, and the ends of its processes."""
    project = made(tmp_path_factory.mktemp("project"))
    project.ends = project.whole_run()
    return project


def parts(run, name):
    """Return the bytes by part that a node was sent, by round."""
    return [c["bytes_by_part"] for record in records(run) for c in record["clients"] if c["name"] == name]


def test_the_update_is_that_of_the_grid_in_one_process_to_the_bit(project):
    assert [ended.status for ended in project.ends] == [0] * 4, project.ends
    assert hashes(project.run) == hashes(project.run_in_one_process())
    assert len(set(hashes(project.run))) == ROUNDS + 1  # control
    assert all(record["aggregation_error"] < 1e-6 for record in records(project.run)[1:])
    assert call("verify", project.run).out.splitlines()[1] == f"rounds 1 to {ROUNDS} recomputed: same bits"


def test_it_learns_on_changes_and_few_bits(project):
    losses = [[node["loss_after"] for node in record["clients"]] for record in records(project.run)]
    assert sum(losses[-1]) < sum(losses[0]) - 0.05
    assert [set(each) for each in parts(project.run, "client-01")][3:-1] == [{"factors", "change"}] * 2
    assert all(sum(c["bytes_by_part"].values()) == c["bytes_down"] < FRAME for c in records(project.run)[4]["clients"])


@pytest.mark.parametrize("state", ["kept", "of another run"])
def test_a_node_that_is_killed_comes_back_with_what_it_kept(project, tmp_path, state):
    own = made(tmp_path / "own")
    server, (killed, *others) = own.server(), own.clients()
    wait_for_line(server, own.run / "metrics.jsonl", 4)
    killed.send_signal(signal.SIGKILL)
    assert end(killed).status == -signal.SIGKILL
    file = own.shards / "nodes" / "client-00.own.toml"
    if state != "kept":
        give_to_another_run(file)
    again = start("client", file)
    server, again, *others = (end(each) for each in (server, again, *others))
    assert [each.status for each in (server, again, *others)] == [0] * 4
    assert hashes(own.run) == hashes(project.run)
    came_back = parts(own.run, "client-00")[4:]
    assert any("whole" in each for each in came_back) == (state != "kept")
    assert ("the server sends the whole global update again" in again.err) == (state != "kept")


def give_to_another_run(file):
    """Let what the node has kept be that of another run, with the right checksum."""
    kept = file.with_suffix(".state") / "global-update"
    _, text, buffer = kept.read_bytes().split(b"\n", 2)
    KeptUpdate(file, "0" * 64, json.loads(text)["base"]).keep(buffer)
