"""Ranks under a budget, agreed on in real processes over mutual TLS: those of one process, verified and reported."""

import pytest

from tests.helpers.end_to_end.command import call, end, start
from tests.helpers.end_to_end.deployment import Project
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import entries, hashes, records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project whose run has ended beside a node whose owner wants more rows behind a reply than are read."""
    project = Project(tmp_path_factory.mktemp("project"), "lora.budget=1%", "lora.targets=all-linear")
    project.write_server(keep_updates="all")
    project.admit("strict")
    log = project.folder / "log"
    server = project.server(log.open("w"))
    strict = start("client", project.node_file("strict", policy={"min_examples": 10_000}))
    until(lambda: "node strict is connected" in log.read_text(), seconds=120)
    project.ends = [end(process) for process in (server, *project.clients())]
    strict.kill()
    end(strict)
    return project


def test_the_ranks_and_the_update_are_those_of_one_process(project):
    assert [ended.status for ended in project.ends] == [0] * 4, project.ends
    plan = entries(project.run)[0]["plan"]
    assert plan["nodes"] == ["client-00", "client-01", "client-02"]
    assert 0 < sum(map(bool, plan["ranks"].values())) < len(plan["ranks"])
    assert hashes(project.run) == hashes(project.run_in_one_process())
    told = call("verify", project.run).out
    assert "given again by the sums of energies: the same" in told
    assert "rounds 1 to 3 recomputed: same bits" in told


def test_the_log_the_metrics_and_the_report_tell_of_them(project):
    ranks = records(project.run)[0]["plan"]["ranks"]
    log = (project.folder / "log").read_text()
    assert f"on {sum(map(bool, ranks.values()))} of {len(ranks)} modules" in log
    assert "strict: its reply for ranks under a budget does not count: policy" in log
    assert "Ranks under the budget" in (project.run / "report.html").read_text()
