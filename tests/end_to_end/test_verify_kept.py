"""`fedlora verify` on whole runs that keep their updates: simulations and deployments, ended, running or gone back."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from common.hash_chain import Entry
from server.storage.kept_updates import checkpoint_before, forget_round, read_kept
from tests.helpers.end_to_end.command import TINY, call, end, refusal, settings
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.end_to_end.patched_server import KILL, at_tidying, run_patched
from tests.helpers.end_to_end.transport import until
from tests.helpers.server.exchange import NumpyNode
from tests.helpers.simulations.runs import BRIEF, entries, hashes, run_tiny

pytestmark = pytest.mark.slow

NODES = [NumpyNode("ada", 4), NumpyNode("bob", 8), NumpyNode("cyd", 16)]
EQUAL = [NumpyNode(node.name, 16) for node in NODES]
RULES = {
    "increments": {},
    "fedsgd": {"algorithm": "fedsgd"},
    "fedlin": {"algorithm": "fedlin", "mode": "b"},
    "hetlora": {"algorithm": "hetlora"},
    "fedit": {"algorithm": "fedit"},
}


def verified(run: Path) -> list[str]:
    ended = call("verify", run)
    assert ended.status == 0, ended.err
    return ended.out.splitlines()


@pytest.mark.parametrize("rule", RULES)
def test_a_deployment_is_recomputed(rule: str, tmp_path: Path) -> None:
    project = NumpyProject(tmp_path, {**RULES[rule], "keep_updates": "all"})
    assert project.whole_run(EQUAL if rule == "fedit" else NODES).status == 0, project.log
    first, second = verified(project.run)
    assert first == f"intact: rounds 0 to 3, last adapter {hashes(project.run)[-1]}"
    assert second == "rounds 1 to 3 recomputed: same bits"
    kept = sorted((project.run / "journal" / "updates" / "000002").glob("*.update"))[0]
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{kept} (round 2) is changed" in refusal(call("verify", project.run))


@pytest.mark.parametrize("rule", RULES)
def test_a_simulation_is_recomputed(rule: str, tmp_path: Path) -> None:
    own = [f"server.{key}={value}" for key, value in RULES[rule].items()]
    ranks = ["clients.ranks=[4]"] if rule == "fedit" else []
    run = run_tiny(tmp_path, *BRIEF, *own, *ranks, "server.keep_updates=1")
    assert verified(run)[1:] == [
        "round 2 recomputed: same bits",
        "round 1 checked by the log alone: their updates are not kept",
    ]


def test_a_simulation_that_resumes_may_keep_another_number(tmp_path: Path) -> None:
    run = run_tiny(tmp_path, *BRIEF, "server.keep_updates=all")
    before = entries(run)
    again = ["simulate", TINY, "--resume", run, *settings(*BRIEF, "server.keep_updates=1")]
    assert call(*again).status == 0
    assert entries(run) == before
    assert verified(run)[1] == "round 2 recomputed: same bits"
    assert call("simulate", TINY, "--resume", run, *settings(*BRIEF)).status == 0
    assert verified(run)[1] == "round 2 recomputed: same bits"  # left unset, it stays


def test_settings_that_were_changed_are_found(tmp_path: Path) -> None:
    project = NumpyProject(tmp_path, {"keep_updates": "all"})
    assert project.whole_run(NODES).status == 0
    config = project.run / "config.toml"
    config.write_text(config.read_text().replace("rounds = 3", "rounds = 4"))
    assert f"{config} (round 0) is changed" in refusal(call("verify", project.run))


def test_a_run_is_verified_while_it_goes_on(tmp_path: Path) -> None:
    project = NumpyProject(tmp_path, {"keep_updates": 2}, rounds=60)
    project.admit_new(node.name for node in NODES)
    seen = set()
    with project.serving() as server:
        running = [project.node(node) for node in NODES]
        until((project.run / "adapter" / "adapter_config.json").exists)
        while server.poll() is None:
            seen.add(verified(project.run)[0])
        assert end(server).status == 0
        for node in running:
            node.stop()
    assert len(seen) > 1
    assert verified(project.run)[1].startswith("rounds 59 to 60 recomputed")


@pytest.mark.parametrize("removed", [True, False])
def test_a_round_that_the_server_removes_while_it_is_recomputed_is_checked_by_the_log_alone(
    removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_tiny(tmp_path, *BRIEF, "server.keep_updates=1")

    def then_gone(journal: Path, entry: Entry) -> dict[str, Any] | None:
        facts = read_kept(journal, entry)
        forget_round(journal, 2) if removed else checkpoint_before(journal, 2).unlink()
        return facts

    monkeypatch.setattr("server.verify.read_kept", then_gone)
    if removed:
        assert verified(run)[1:] == ["rounds 1 to 2 checked by the log alone: their updates are not kept"]
    else:
        assert "before.state is not the state after round 1" in refusal(call("verify", run))


def test_a_finished_run_goes_back_twice_and_once_killed(tmp_path: Path) -> None:
    project = NumpyProject(tmp_path, {"keep_updates": "all"})
    assert project.whole_run(NODES).status == 0
    honest = hashes(project.run)
    assert run_patched(project, [], at_tidying(KILL), "--from-round", 2).status == -9
    assert hashes(project.run) == honest[:3]
    assert "it is not what round 2 published" in refusal(call("verify", project.run))
    assert run_patched(project, NODES, "import sys, fedlora", "--from-round", 1).status == 0
    assert hashes(project.run) == honest
    assert verified(project.run)[1:] == [
        "rounds 1 to 3 recomputed: same bits",
        "2 rounds left by going back; they do not count",
    ]


def test_a_copy_of_a_run_is_verified_as_well(tmp_path: Path) -> None:
    project = NumpyProject(tmp_path / "first", {"keep_updates": 1})
    assert project.whole_run(NODES).status == 0
    assert verified(shutil.copytree(project.run, tmp_path / "copy")) == verified(project.run)
