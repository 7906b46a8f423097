"""Found by attack: nodes that come first, or whose announcement is false, decide nothing about a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.settings.reader import read_toml
from tests.helpers.end_to_end.command import end
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject, honest
from tests.helpers.end_to_end.transport import until
from tests.helpers.server.exchange import NumpyNode
from tests.helpers.simulations.runs import entries, hashes, records

HUGE = {f"layers.{number}": (2**22, 2**22) for number in range(40)}
FALSE = {
    "fingerprint": {"base": "!"},
    "modules": {"shapes": {"head": (3, 8)}},
    "huge": {"base": "!", "shapes": HUGE},
    "huge-of-the-base": {"shapes": HUGE},
    "other-order": {"shapes": {"value": (10, 6), "query": (8, 8), "head": (8, 3)}},
}
"""What is false in an announcement, by name."""


def resident(process):
    """Return the peak of the process's resident memory in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def run_beside(project, *others, spoil=honest):
    """Run the honest nodes, started once the others are refused; return the server's end and its growth in bytes."""
    project.admit_new(node.name for node in (*others, *HONEST))
    with project.serving() as server:
        until(lambda: any("listening" in line for line in project.log))
        before = resident(server)
        running = [project.node(node, spoil) for node in others]
        until(lambda: all(any(f"node {node.name} is refused" in line for line in project.log) for node in others))
        running += [project.node(node) for node in HONEST]
        until(lambda: len(project.run.joinpath("journal/log.jsonl").read_bytes().splitlines()) == 4)
        growth = resident(server) - before
        ended = end(server)
        for node in running:
            node.stop()
    return ended, growth


@pytest.mark.parametrize("what", FALSE)
def test_found_S1_a_node_that_comes_first_decides_nothing(what, undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    liar = replace(NumpyNode("aaa", 16), **FALSE[what])
    ended, growth = run_beside(project, liar)
    assert ended.status == 0
    word = "base" if "base" in FALSE[what] else "shape"
    assert any(f"node aaa is refused: {word}" in line for line in project.log)
    assert hashes(project.run) == hashes(undisturbed.run)
    refused = [{c["name"]: c["reason"] for c in record["clients"]}["aaa"] for record in records(project.run)]
    assert refused == [word] * 4
    assert growth < 64 * 2**20


def test_found_S1_the_log_begins_with_the_operators_base(undisturbed):
    first = entries(undisturbed.run)[0]
    described = read_toml(undisturbed.folder / "base.toml")
    assert first["base"] == first["model"]["fingerprint"] == described["fingerprint"]
    assert dict(
        zip(first["model"]["modules"], zip(first["model"]["d"], first["model"]["k"], strict=True), strict=True)
    ) == {name: tuple(module["shape"]) for name, module in described["modules"].items()}
    assert first["max_rank"] == 16


def test_found_S1_a_new_run_without_a_base_is_refused_before_it_listens(tmp_path):
    project = NumpyProject(tmp_path)
    project.admit("ada")
    project.write_server({}, base={})
    with project.serving() as server:
        assert end(server).status == 2
    assert "[base] file is not set" in project.log_file.read_text()
    assert not project.run.joinpath("config.toml").exists()


def test_found_S2_shapes_of_an_announcement_cost_no_memory(undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    liars = [NumpyNode(f"aaa-{number}", 16, base="!", shapes=HUGE) for number in range(4)]
    ended, growth = run_beside(project, *liars)
    assert (ended.status, growth < 64 * 2**20) == (0, True)
    assert hashes(project.run) == hashes(undisturbed.run)


def test_found_S2_an_announcement_of_too_many_modules_is_malformed(tmp_path):
    project = NumpyProject(tmp_path)
    names = [f"{number:x}" for number in range(2**14 + 1)]
    many = {"modules": names, "d": [1] * len(names), "k": [1] * len(names)}

    def announce(kind, asked, reply):
        return replace(reply, values={**reply.values, **many}) if kind == "query" else reply

    ended, growth = run_beside(project, NumpyNode("aaa", 4), spoil=announce)
    assert growth < 64 * 2**20
    assert ended.status == 0
    assert any("node aaa is refused: malformed" in line for line in project.log)


def test_found_S3_a_node_of_the_largest_rank_takes_part_however_late_it_comes(tmp_path):
    project = NumpyProject(tmp_path, quorum=2, rounds=4)
    for node in HONEST:
        project.admit(node.name)
    with project.serving() as server:
        running = [project.node(node) for node in HONEST[:2]]
        until(lambda: any("round 0 is committed" in line for line in project.log))
        running.append(project.node(HONEST[2]))  # rank 16
        assert end(server).status == 0
        for node in running:
            node.stop()
    assert {entry["max_rank"] for entry in entries(project.run)} == {16}
    last = {client["name"]: client for client in records(project.run)[-1]["clients"]}
    assert (last["cyd"]["rank"], last["cyd"]["status"]) == (16, "ok")


def test_found_S3_a_node_above_the_operators_rank_trains_at_that_one_and_both_say_so(tmp_path):
    project = NumpyProject(tmp_path)
    project.write_server({}, base={"file": "base.toml", "max_rank": 8})
    assert project.whole_run(HONEST).status == 0
    assert [c["rank"] for c in records(project.run)[-1]["clients"]] == [4, 8, 8]
    assert "node cyd is ready, at rank 8 of its 16" in project.log
    assert entries(project.run)[0]["max_rank"] == 8


def test_found_S4_after_a_restart_the_odd_one_is_refused_and_the_run_goes_on(undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    for name in ("aaa", *(node.name for node in HONEST)):
        project.admit(name)
    running = []
    with project.serving() as server:
        running += [project.node(node) for node in HONEST]
        until(lambda: any("round 1 is committed" in line for line in project.log))
        server.kill()
        server.wait()
    for node in running:
        node.stop()
    ended, _ = run_beside(project, NumpyNode("aaa", 4, shapes={"query": (8, 8)}))
    assert ended.status == 0
    assert any("node aaa is refused: shape" in line for line in project.log)
    assert hashes(project.run) == hashes(undisturbed.run)


def test_found_R7_the_exported_adapter_names_the_base_and_not_a_folder_of_the_operator(undisturbed, tmp_path):
    config = json.loads((undisturbed.run / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "numbers"  # as in base.toml
    project = NumpyProject(tmp_path, rounds=1)
    project.write_server({}, rounds=1, base={"file": "base.toml", "name": "org/model"})
    assert project.whole_run(HONEST).status == 0
    config = json.loads((project.run / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/model"
