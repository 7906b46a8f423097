"""No reply of an admitted node decides a sum: rows S5, S6, S7 and S13, over mutual TLS with a real server process."""

import json
import time
from contextlib import ExitStack

import numpy as np
import pytest
from safetensors.numpy import load_file

from server.monitoring.status_reader import read_status
from tests.helpers.end_to_end.command import call, end
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.server.exchange import NumpyNode
from tests.helpers.server.spoilt_nodes import CopyingNode, SpoilingNode, larger_b, larger_both
from tests.helpers.simulations.runs import entries, hashes, records

RULES = {
    "increments": {},
    "mode-b": {"mode": "b"},
    "fedlin": {"algorithm": "fedlin", "mode": "b"},
    "fedit": {"algorithm": "fedit"},
    "hetlora": {"algorithm": "hetlora"},
}
EXACT = ("increments", "mode-b", "fedlin")
NAMES = ("ada", "bob", "cyd", "eve")
HONEST = NAMES[:-1]


def ranks(rule):
    return dict(zip(NAMES, (4, 4, 4, 4) if rule == "fedit" else (8, 1, 2, 4), strict=True))


def cohort(rule, *others):
    """Return three honest nodes, and these in the place of the fourth."""
    return [NumpyNode(name, ranks(rule)[name]) for name in HONEST] + list(others)


def ended(folder, rule, *others, rounds=3, **server):
    """Run these nodes to the end, and return the project."""
    base = {"file": "base.toml", "max_rank": max(ranks(rule).values())}
    project = NumpyProject(folder, RULES[rule] | server, rounds=rounds, quorum=4, base=base)
    together(project, cohort(rule, *others))
    return project


def together(project, nodes):
    """Run these nodes to the end; the first is connected before the others, and the server listens before any."""
    for node in nodes:
        project.admit(node.name)
    with project.serving() as server, ExitStack() as running:
        for node, seen in zip(nodes, ("listening at", "1 of ", "", ""), strict=False):
            wait_for(server, project, seen)
            running.callback(project.node(node).stop)
        assert end(server).status == 0, project.log


def wait_for(server, project, words):
    """Wait for a line with these words in the server's log, or for its end."""
    while server.poll() is None and not any(line.startswith(words) for line in project.log):
        time.sleep(0.05)


def parts(run):
    """Return each client's part in each round of training, by name."""
    return [{client["name"]: client for client in record["clients"]} for record in records(run)[1:]]


def mean_loss(part):
    return np.mean([part[name]["loss_after"] for name in HONEST])


# --- S5: one reply with B x 1e30 ---


@pytest.fixture(scope="module", params=RULES)
def poisoned(request, tmp_path_factory):
    """Return a rule, and the project of a run in whose first round one node sends B x 1e30."""
    rule = request.param
    eve = SpoilingNode("eve", ranks(rule)["eve"], change=larger_b(1e30), rounds=[1])
    return rule, ended(tmp_path_factory.mktemp(rule), rule, eve)


def test_found_S5_after_one_huge_reply_every_honest_update_counts(poisoned):
    rule, project = poisoned
    assert len(records(project.run)) == 4
    for number, part in enumerate(parts(project.run), 1):
        assert {(client["status"], client["reason"]) for client in part.values()} == {("ok", None)}
        assert [part[name]["clip"] for name in HONEST] == [1.0] * 3
        assert min(part[name]["share"] for name in HONEST) > 0.01
        assert part["eve"]["clip"] < 1e-25 if number == 1 else part["eve"]["clip"] == 1.0
    errors = [record["aggregation_error"] for record in records(project.run)[1:]]
    assert max(errors) < 1e-6 if rule in EXACT else np.isfinite(errors).all()


def test_found_S5_the_run_learns_on_and_its_adapter_is_sane(poisoned):
    _, project = poisoned
    before = np.mean([client["loss_after"] for client in records(project.run)[0]["clients"] if client["name"] != "eve"])
    assert all(mean_loss(part) < 1.5 * before for part in parts(project.run))
    assert len(set(hashes(project.run))) == 4
    tensors = load_file(project.run / "adapter" / "adapter_model.safetensors").values()
    assert all(np.isfinite(tensor).all() and np.abs(tensor).max() < 10 for tensor in tensors)
    assert call("verify", project.run).out.startswith("intact: rounds 0 to 3")


def test_found_S5_the_log_names_the_node_that_was_clipped_and_no_other(poisoned):
    _, project = poisoned
    clipped = [line for line in project.log if "clipped to" in line]
    assert len(clipped) == 1
    assert "eve: clipped to" in clipped[0]
    assert not any(word in line for line in project.log for word in ("ERROR", "Traceback", "rejected"))


def test_found_S5_each_line_of_the_log_has_what_counts_with_norm_and_factor(poisoned):
    rule, project = poisoned
    for entry in entries(project.run)[1:]:
        clients = {client["name"]: client for client in entry["metrics"]["clients"]}
        assert [accepted[0] for accepted in entry["accepted"]] == list(NAMES)
        for name, update, weight, signature, norm, clip in entry["accepted"]:
            keys = "update", "share", "norm", "clip"
            assert (update, weight, norm, clip) == tuple(clients[name][key] for key in keys)
            assert len(bytes.fromhex(signature)) == 64
        assert entry["refused"] == []
        assert [[each[0] for each in phase] for phase in entry.get("earlier_phases", [])] == (
            [list(NAMES)] if rule == "fedlin" else []
        )


@pytest.mark.parametrize("rule", RULES)
def test_found_S5_honest_runs_have_the_same_bits_with_and_without_the_bound(rule, tmp_path):
    eve = NumpyNode("eve", ranks(rule)["eve"])
    bounded, free = (ended(tmp_path / str(bound), rule, eve, rounds=2, norm_bound=bound) for bound in ("auto", 0.0))
    assert hashes(bounded.run) == hashes(free.run)
    assert not any("clipped" in line for line in bounded.log)


def test_found_S5_without_the_bound_the_same_reply_poisons_the_run(tmp_path):
    eve = SpoilingNode("eve", 4, change=larger_b(1e30), rounds=[1])
    project = NumpyProject(tmp_path, {"norm_bound": 0.0}, quorum=4)
    result = project.whole_run(cohort("increments", eve))
    assert result.status == 1 or not mean_loss(parts(project.run)[0]) < 1e20


@pytest.mark.parametrize(("rule", "times"), [("increments", 1e18), ("hetlora", 1e4)])
def test_found_S5_large_factors_on_both_sides_and_in_every_round(rule, times, tmp_path):
    eve = SpoilingNode("eve", ranks(rule)["eve"], change=larger_both(times))
    project = ended(tmp_path, rule, eve)
    first = parts(project.run)[0]
    assert all(part["eve"]["clip"] < 1e-3 and part["ada"]["clip"] == 1 for part in parts(project.run))
    assert mean_loss(parts(project.run)[-1]) < 1.5 * np.mean([first[name]["loss_before"] for name in HONEST])


@pytest.mark.parametrize("rule", ["increments", "fedlin"])
def test_found_S5_three_nodes_have_no_median_and_are_safe_too(rule, tmp_path):
    eve = SpoilingNode("eve", 4, change=larger_b(1e30), rounds=[1])
    project = NumpyProject(tmp_path, RULES[rule])
    together(project, [*cohort(rule)[:2], eve])
    for part in parts(project.run):
        assert {client["status"] for client in part.values()} == {"ok"}
        assert part["ada"]["clip"] == part["bob"]["clip"] == 1
        assert max(part[name]["loss_after"] for name in ("ada", "bob")) < 1000


# --- S6: no rule lets a node set its own weight ---


@pytest.mark.parametrize(
    ("rule", "weights"),
    [("hetlora", "norm"), ("fedlin", "norm"), ("increments", "norm"), ("increments", "examples")],
)
def test_found_S6_the_signed_weight_is_the_share_used_and_within_its_cap(rule, weights, tmp_path):
    eve = SpoilingNode("eve", 4, change=larger_b(1e6))
    project = ended(tmp_path, rule, eve, rounds=2, weights=weights)
    cap = 2 / 4 if weights == "norm" else 1 / 4
    for name in NAMES:
        lines = (project.folder / "nodes" / f"{name}.receipts").read_text().splitlines()
        signed = [(line["blob_hash"], line["weight"]) for line in map(json.loads, lines)]
        used = [(part[name]["update"], part[name]["share"]) for part in parts(project.run)]
        logged = [(a[1], a[2]) for entry in entries(project.run) for a in entry["accepted"] if a[0] == name]
        assert signed == used == logged
        assert all(0 < share <= cap + 1e-12 for _, share in used)


# --- S7: no more examples than the steps of the order read ---


@pytest.mark.parametrize("rule", ["increments", "fedlin"])
def test_found_S7_a_count_above_what_the_steps_read_is_refused(rule, tmp_path):
    """3 steps of 16 rows; the roster allows 5,000."""
    project = NumpyProject(tmp_path, RULES[rule], rounds=2)
    together(project, [SpoilingNode("eve", 4, examples=5000), *cohort(rule)])
    for entry, part in zip(entries(project.run)[1:], parts(project.run), strict=True):
        assert (part["eve"]["status"], part["eve"]["reason"], part["eve"]["share"]) == ("refused", "weight", 0.0)
        assert [part[name]["share"] for name in HONEST] == pytest.approx([1 / 3] * 3)
        assert entry["refused"] == [["eve", "weight"]]
        assert [accepted[0] for accepted in entry["accepted"]] == list(HONEST)


def test_found_S7_as_many_as_the_steps_read_count(tmp_path):
    project = ended(tmp_path, "increments", SpoilingNode("eve", 4, examples=48), rounds=1)
    assert parts(project.run)[0]["eve"]["share"] == pytest.approx(48 / 78)


# --- S13: identical updates ---


@pytest.mark.parametrize("turned", [False, True])
def test_found_S13_identical_updates_count_and_are_told(turned, tmp_path):
    project = ended(tmp_path, "increments", CopyingNode("eve", 8, of="ada", turned=turned), rounds=2)
    for part in parts(project.run):
        assert [part[name]["same_as"] for name in NAMES] == ["eve", None, None, "ada"]
        assert (part["ada"]["update"] == part["eve"]["update"]) == (not turned)
        assert {client["status"] for client in part.values()} == {"ok"}
        assert part["eve"]["share"] == pytest.approx(1 / 4)
    assert sum("eve: sent the same update as ada" in line for line in project.log) == 2
    rows = {node.name: node.same_as for node in read_status(project.run).nodes}
    assert rows == {"ada": "eve", "bob": None, "cyd": None, "eve": "ada"}


def test_found_S13_other_updates_of_the_same_rank_are_not(tmp_path):
    project = ended(tmp_path, "increments", NumpyNode("eve", 8), rounds=1)
    assert {client["same_as"] for client in parts(project.run)[0].values()} == {None}
