"""Found by faults: nodes that load, cannot load, or vanish are named and waited for; no fault of one ends the run."""

import json
import time
import zlib
from pathlib import Path

import pytest

from tests.helpers.end_to_end.command import call, end, refusal, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import hashes, records


def has(project, text):
    """Return a condition: a line of the server's log contains the text."""
    return lambda: any(text in line for line in project.log)


def states(project):
    """Return the state of each node in status.json, by name."""
    return {node["name"]: node["state"] for node in json.loads((project.run / "status.json").read_text())["nodes"]}


def slow_to_load(seconds):
    def answer(kind, asked, reply):
        if kind == "query":
            time.sleep(seconds)
        return reply

    return answer


def long_in_round_2(kind, asked, reply):
    """Take a second, so that the node can vanish meanwhile."""
    if kind == "train" and asked.values["round"] == 2:
        time.sleep(1)
    return reply


def test_found_R2_nodes_that_all_vanish_are_waited_for(undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    project.admit_new(node.name for node in HONEST)
    with project.serving() as server:
        running = [project.node(node, long_in_round_2) for node in HONEST]
        until(has(project, "round 1 is committed"))
        for node in running:
            node.stop()
        until(has(project, "node bob is silent since"))
        assert server.poll() is None
        until(lambda: all(state.startswith("silent since") for state in states(project).values()))
        running = [project.node(node) for node in HONEST]
        assert end(server).status == 0
        for node in running:
            node.stop()
    assert hashes(project.run) == hashes(undisturbed.run)


def test_found_R2_after_its_patience_it_names_the_nodes_and_the_command_that_was_typed(tmp_path):
    project = NumpyProject(tmp_path, patience=8.0)
    project.admit_new(node.name for node in HONEST)
    with project.serving() as server:
        running = [project.node(node) for node in HONEST[:2]]
        ended = end(server)
        for node in running:
            node.stop()
    last = project.log_file.read_text().splitlines()[-1]
    assert ended.status == 1
    assert "2 of 3 nodes are ready after patience = 8 s (ada: ready, bob: ready)" in last
    assert last.endswith(f"resume with: fedlora server {project.file}")
    assert "--resume" not in last


def test_found_R4_a_round_above_the_rosters_limit_is_refused_before_the_first(tmp_path):
    project = NumpyProject(tmp_path)
    for node, limit in zip(HONEST, (100, 40, 5000), strict=True):
        project.admit(node.name, max_weight=limit)
    train = {"steps": 3, "batch": 8, "accumulate": 2, "lr": 0.1}
    project.write_server({}, train=train)
    with project.serving() as server:
        assert end(server).status == 2
    text = project.log_file.read_text()
    assert "steps = 3 times batch = 8 times accumulate = 2 is 48 rows a round" in text
    assert "bob (40)" in text
    assert "--max-weight 48" in text
    assert not (project.run / "journal" / "log.jsonl").exists()


def test_found_R4_where_enough_nodes_are_left_it_is_a_warning(tmp_path):
    project = NumpyProject(tmp_path, quorum=2)
    for node, limit in zip(HONEST, (100, 40, 5000), strict=True):
        project.admit(node.name, max_weight=limit)
    assert project.whole_run(HONEST).status == 0
    assert has(project, "the roster allows fewer examples to bob (40)")()


def test_found_R4_a_gradient_is_of_no_more_rows_than_the_roster_allows(tmp_path):
    project = NumpyProject(tmp_path)
    for node in HONEST:
        project.admit(node.name, max_weight=10)
    project.write_server({"algorithm": "fedsgd"}, train={"steps": 3, "batch": 8, "accumulate": 2, "lr": 0.1})
    assert project.whole_run(HONEST).status == 0


def test_found_R6_the_first_load_does_not_count_against_a_round(undisturbed, tmp_path):
    project = NumpyProject(tmp_path, deadline=1.0)
    assert project.whole_run(HONEST, dict.fromkeys(["ada", "bob", "cyd"], slow_to_load(3.0))).status == 0
    assert hashes(project.run) == hashes(undisturbed.run)


def test_found_R6_a_node_that_loads_is_named_and_not_counted(tmp_path):
    project = NumpyProject(tmp_path, quorum=2)
    project.admit_new(node.name for node in HONEST)
    with project.serving() as server:
        running = [project.node(HONEST[2], slow_to_load(4.0))]
        until(has(project, "node cyd is connected"))
        running += [project.node(node) for node in HONEST[:2]]
        until(has(project, "2 of 2 nodes are ready; waiting for cyd (loading)"))
        assert states(project) == {"ada": "ready", "bob": "ready", "cyd": "loading"}
        assert end(server).status == 0
        for node in running:
            node.stop()
    assert {client["name"] for client in records(project.run)[1]["clients"]} == {"ada", "bob", "cyd"}


# --- R5, with nodes of the command ---

FAULTS = {
    "column": ("rows", {"text": "missing"}, "'missing'"),
    "label": ("rows", {"labels": ["farm", "harbour", "kitchen"]}, "'station'"),
    "order": ("base", {"labels": ["station", "kitchen", "harbour", "farm"]}, "labels: the run has"),
    "model": ("model", {"base": "nothing-here"}, "config.json"),
}
"""By name: the server's word for the node, what is wrong in its file, and what its owner is told."""
UNCONNECTED = {"rank": ("settings", {"rank": 33}, "exceeds min(d, k)")}
"""One more, which the roster keeps from connecting at all."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("project"), "train.steps=2", "train.rounds=1")
    made.admit("odd")
    (made.shards / "nodes" / "nothing-here").mkdir()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_found_R5_a_node_that_cannot_take_part_is_named_with_its_reason_and_waited_for(name, project, tmp_path):
    word, changes, told = FAULTS[name]
    odd, log = project.node_file("odd", **changes), tmp_path / "server.log"
    project.write_server(quorum=4, run=f"run-{name}")
    with log.open("w") as file:
        server = project.server(file)
    nodes = [*project.clients(), start("client", odd)]
    try:
        until(lambda: f"node odd is refused: {word}" in log.read_text(), seconds=120)
        assert server.poll() is None
        ended = end(nodes.pop())
        assert (ended.status, told in ended.err, "Traceback" in ended.err) == (2, True, False)
        until(lambda: f"3 of 4 nodes are ready; waiting for odd (refused: {word}" in log.read_text(), seconds=60)
        nodes[3:] = [start("client", project.node_file("odd"))]  # its owner has mended it
        assert [end(process).status for process in (server, *nodes)] == [0] * 5, log.read_text()
    finally:
        for process in (server, *nodes):
            process.kill()


@pytest.mark.parametrize("name", [*FAULTS, *UNCONNECTED])
def test_found_R5_a_check_without_a_server_says_the_same(name, project):
    word, changes, told = (FAULTS | UNCONNECTED)[name]
    ended = call("client", "--check", project.node_file(f"checked-{name}", **changes, keys=""))
    if word == "base":  # Only a comparison with the operator's file can tell.
        described = (project.shards / "base.toml").read_text()
        good = call("client", "--check", project.node_file("good", keys=""))
        assert [ended.status, good.status] == [0, 0]
        assert fingerprint(ended.out) not in described
        assert fingerprint(good.out) in described
    else:
        assert told in refusal(ended)


def fingerprint(out):
    return out.split("fingerprint ")[1].split()[0]


def test_a_check_says_what_the_roster_and_the_policy_would_refuse(project):
    name = next(iter(NODES))
    for told, change in {
        "rank = 32, but the roster allows 16": {"rank": 32},
        "[policy] targets = ['query'] leaves out": {"policy": {"targets": ["query"]}},
        "[policy] max_rank = 2": {"policy": {"max_rank": 2}},
        "[policy] min_examples = 9999": {"policy": {"min_examples": 9999}},
        "[policy] base = 'abc'": {"policy": {"base": "abc"}},
    }.items():
        file = project.node_file(name, like=name, stem=f"{name}-{zlib.crc32(told.encode())}", **change)
        assert told in refusal(call("client", "--check", file))
    assert call("client", "--check", project.node_file(name, like=name)).status == 0


def test_a_description_is_never_overwritten(project, tmp_path):
    file = project.node_file("describer", keys="")
    out = tmp_path / "base.toml"
    assert call("client", "--check", file, "--describe", out).status == 0
    assert out.read_text() == (project.shards / "base.toml").read_text()
    assert "already exists" in refusal(call("client", "--check", file, "--describe", out))
    assert "cannot write" in refusal(call("client", "--check", file, "--describe", tmp_path / "no" / "base.toml"))


def test_a_description_without_a_check_is_refused(project):
    ended = call("client", project.node_file("describer", keys=""), "--describe", Path("base.toml"))
    assert (ended.status, "--check" in ended.err) == (2, True)
