"""Exchanges of gradients in real processes: over mutual TLS, killed nodes and servers, the same bits everywhere."""

import json
import signal

import pytest

from tests.helpers.end_to_end.command import call, end, start
from tests.helpers.end_to_end.deployment import NODES, project_of
from tests.helpers.simulations.runs import entries, hashes, records, wait_for_line

pytestmark = pytest.mark.slow

SGD = {"algorithm": "fedsgd", "rank_shared": 16, "keep_updates": "all"}
MEMORY = "gradient-memory"


def made(folder):
    return project_of(folder, SGD)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project whose run has ended, and the ends of its processes."""
    project = made(tmp_path_factory.mktemp("project"))
    project.ends = project.whole_run()
    return project


def test_a_server_and_three_nodes_of_ranks_4_to_16_end_by_themselves(project):
    assert [ended.status for ended in project.ends] == [0] * 4, project.ends
    assert {node["name"]: node["rank"] for node in records(project.run)[-1]["clients"]} == NODES
    assert all(record["aggregation_error"] < 1e-6 for record in records(project.run)[1:])


def test_the_update_is_that_of_the_grid_in_one_process_to_the_bit(project):
    assert hashes(project.run) == hashes(project.run_in_one_process())
    assert len(set(hashes(project.run))) == 4  # control


def test_verify_repeats_the_sum_and_the_step_of_the_optimizer(project):
    ended = call("verify", project.run)
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[1] == "rounds 1 to 3 recomputed: same bits"


def test_a_nodes_memory_is_beside_its_file_and_for_its_owner_alone(project):
    for name, rank in NODES.items():
        folder = project.shards / "nodes" / f"{name}.own.state"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / MEMORY).stat().st_mode & 0o777 == 0o600
        values = json.loads((folder / MEMORY).read_bytes().split(b"\n")[1])
        accepted = {row[0]: row[1] for row in entries(project.run)[3]["accepted"]}
        assert values["next"] == [3, accepted[name]], rank


def test_a_server_that_is_killed_goes_on_to_the_same_bits(project, tmp_path):
    own = made(tmp_path / "own")
    server, clients = own.server(), own.clients()
    wait_for_line(server, own.run / "metrics.jsonl", 2)
    server.send_signal(signal.SIGKILL)
    assert end(server).status == -signal.SIGKILL
    assert end(own.server()).status == 0
    assert [end(each).status for each in clients] == [0] * 3
    assert hashes(own.run) == hashes(project.run)


def test_a_node_that_is_killed_in_a_round_comes_back_to_the_same_bits(project, tmp_path):
    own = made(tmp_path / "own")
    server, (killed, *others) = own.server(), own.clients()
    wait_for_line(server, own.run / "metrics.jsonl", 2)
    killed.send_signal(signal.SIGKILL)
    assert end(killed).status == -signal.SIGKILL
    again = start("client", own.shards / "nodes" / "client-00.own.toml")
    assert [end(each).status for each in (server, again, *others)] == [0] * 4
    assert hashes(own.run) == hashes(project.run)
