"""Heads in closed form in real processes over mutual TLS: the bits of one process, verified, refused by an owner."""

import pytest

from tests.helpers.end_to_end.command import call, end, start
from tests.helpers.end_to_end.deployment import Project
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import entries, hashes, records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project whose run has ended beside a node whose owner allows nothing, and the ends of its processes."""
    project = Project(tmp_path_factory.mktemp("project"), "lora.head=lda")
    project.write_server(keep_updates="all")
    project.admit("strict")
    log = project.folder / "log"
    server = project.server(log.open("w"))
    strict = start("client", project.node_file("strict", policy={"class_sums": False}))
    until(lambda: "node strict is connected" in log.read_text(), seconds=120)
    project.ends = [end(process) for process in (server, strict, *project.clients())]
    return project


def test_the_update_is_that_of_the_grid_in_one_process_to_the_bit(project):
    assert [ended.status for ended in project.ends] == [0] * 5, project.ends
    assert hashes(project.run) == hashes(project.run_in_one_process())
    found = [entry.get("head") for entry in entries(project.run)]
    assert [bool(head) for head in found] == [True, False, False, True]
    assert set(found[0]["sums"]) == {"client-00", "client-01", "client-02"}
    assert found[0]["kept"]
    assert found[0]["loss"] < found[0]["loss_trained"]
    assert call("verify", project.run).out.splitlines()[1] == "rounds 1 to 3 recomputed: same bits"


def test_receipts_are_of_updates_and_not_of_sums(project):
    accepted = [entry["accepted"] for entry in entries(project.run)[1:]]
    for name in ("client-00", "client-01", "client-02"):
        assert len((project.folder / name / f"{name}.receipts").read_text().splitlines()) == len(accepted)


def test_a_node_that_sends_no_class_sums_is_named_before_the_first_round(project):
    server, strict = (project.folder / "log").read_text(), project.ends[1].err
    named = server.index("node strict is refused: policy (its owner lets no gradient leave, or no class sums")
    assert named < server.index("round 1: 3 nodes train")
    assert "[policy] class_sums = false, requested are sums of features by class" in strict
    words = {c["reason"] for record in records(project.run) for c in record["clients"] if c["name"] == "strict"}
    assert words == {"policy"}
