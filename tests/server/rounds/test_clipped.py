"""Whole rounds under the norm bound: what is recorded, what a resumed run knows, and what is bounded in which phase."""

from types import SimpleNamespace

import pytest

from server.clipping.norm_bound import MULTIPLE
from server.rounds.phases import PhaseRunner
from tests.helpers.server.exchange import MemoryExchange, NumpyNode
from tests.helpers.server.runs import FOUR, Each, clients, fresh, hashes, plan, run
from tests.helpers.server.spoilt_nodes import CopyingNode, SpoilingNode, larger_b

FEDLIN = {"algorithm": "fedlin", "mode": "b"}


def one_loud():
    """Return three nodes that send a hundredth of what they trained, and one that sends all: the order allows it."""
    quiet = [SpoilingNode(name, 4, change=larger_b(0.01)) for name in ("ada", "bob", "cyd")]
    return MemoryExchange([*quiet, NumpyNode("eve", 4)])


class Stop(Exception):
    """Someone pulled the plug."""


def stopped(folder, settings, number):
    """Run until this round is committed."""

    def stop(committed):
        if committed == number:
            raise Stop

    with pytest.raises(Stop):
        run(folder, one_loud(), settings, Each(committed=stop))


def test_a_node_is_clipped_to_a_multiple_of_the_median_of_all_rounds(tmp_path):
    seen = []
    for entry in run(tmp_path, one_loud(), plan(4))[1:]:
        norms = {name: norm for name, *_, norm, _ in entry["accepted"]}
        found = {name: clip for name, *_, clip in entry["accepted"]}
        seen = sorted([*seen, *norms.values()])
        bound = MULTIPLE * seen[(len(seen) - 1) // 2]
        assert found == pytest.approx({name: min(1.0, bound / norm) for name, norm in norms.items()})
        assert {name: (c["norm"], c["clip"]) for name, c in clients(entry).items()} == {
            name: (norms[name], found[name]) for name in norms
        }
        assert entry["metrics"]["aggregation_error"] < 1e-6
    assert clients(run(tmp_path, one_loud(), plan(4))[1])["eve"]["clip"] < 0.5


def test_a_resumed_run_knows_the_norms_of_the_rounds_before(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", one_loud(), plan(4))
    stopped(tmp_path / "half", plan(4), 2)
    assert hashes(run(tmp_path / "half", one_loud(), plan(4))) == hashes(whole)
    stopped(tmp_path / "forgetful", plan(4), 2)
    monkeypatch.setattr(PhaseRunner, "_earlier_norms", lambda self, phase: [])
    assert hashes(run(tmp_path / "forgetful", one_loud(), plan(4))) != hashes(whole)  # control


def test_the_log_of_a_simulation_has_no_signatures(tmp_path):
    for entry in run(tmp_path, fresh(), plan(2)):
        names = [node.name for node in FOUR] if entry["round"] else []
        assert [(name, signature) for name, _, _, signature, *_ in entry["accepted"]] == [(n, "") for n in names]
        assert "earlier_phases" not in entry


def test_the_log_says_of_each_phase_what_counted(tmp_path):
    entries = run(tmp_path, fresh(), plan(2, **FEDLIN))
    for entry in entries[1:]:
        (gradients,) = entry["earlier_phases"]
        assert (
            [each[0] for each in gradients] == [each[0] for each in entry["accepted"]] == ["ada", "bob", "cyd", "eve"]
        )
        assert not {each[1] for each in gradients} & {each[1] for each in entry["accepted"]}
    journal = SimpleNamespace(entries=entries, spool_path=None)
    runner = PhaseRunner(plan(2, **FEDLIN), 2, None, journal, None, None)
    for phase, key in ((1, "earlier_phases"), (2, "accepted")):
        expected = [a[4] for e in entries[1:] for a in (e[key][0] if phase == 1 else e[key])]
        assert runner._earlier_norms(phase) == expected
    old = [{"round": 0}, {"round": 1}]  # lines of a run that began before norms were logged
    assert PhaseRunner(plan(2), 1, None, SimpleNamespace(entries=old), None, None)._earlier_norms(1) == []


def test_the_log_says_who_was_refused_and_why_and_not_who_was_absent(tmp_path):
    answers, messenger = {"ada": "policy", "bob": "absent"}, fresh()
    messenger.tamper = lambda name, kind, number, reply: (
        answers.get(name, reply) if kind == "train" and number == 1 else reply
    )
    _, first, second = run(tmp_path, messenger, plan(2))
    assert first["refused"] == [["ada", "policy"]]
    assert [each[0] for each in first["accepted"]] == ["cyd", "eve"]
    assert second["refused"] == []
    assert (clients(first)["ada"]["norm"], clients(first)["ada"]["clip"]) == (None, 1.0)


def test_a_refused_node_keeps_no_norm_of_the_phase_before(tmp_path):
    messenger = fresh()
    messenger.tamper = lambda name, kind, number, reply: (
        "failed" if name == "eve" and kind == "train" and reply.values["phase"] == 2 else reply
    )
    entry = run(tmp_path, messenger, plan(1, **FEDLIN))[1]
    assert [each[0] for each in entry["earlier_phases"][0]] == ["ada", "bob", "cyd", "eve"]
    assert [each[0] for each in entry["accepted"]] == ["ada", "bob", "cyd"]
    assert clients(entry)["eve"]["norm"] is None


@pytest.mark.parametrize("names", [("ada", "bob", "eve"), ("ada", "bob", "cyd", "eve")])
def test_a_huge_gradient_decides_no_direction(names, tmp_path):
    """With three replies it is bounded by the largest of the others, with four by the median."""

    def first_update(folder, eve, **server):
        nodes = [NumpyNode(name, 4) for name in names[:-1]]
        entry = run(folder, MemoryExchange([*nodes, eve]), plan(1, **FEDLIN, **server))[1]
        return entry["earlier_phases"][0][-1], clients(entry)["ada"]["loss_after"]

    huge = SpoilingNode("eve", 4, change=larger_b(1e30))
    (*_, clip), loss = first_update(tmp_path / "bounded", huge)
    assert clip < 1e-20
    assert loss < 1.2 * first_update(tmp_path / "honest", NumpyNode("eve", 4))[1]
    assert first_update(tmp_path / "free", huge, norm_bound=0.0)[0][-1] == 1.0  # control


def test_a_copy_is_recorded_at_both(tmp_path):
    nodes = [NumpyNode("ada", 4), NumpyNode("bob", 4), CopyingNode("eve", 4, of="ada", turned=True)]
    entry = run(tmp_path, MemoryExchange(nodes), plan(1))[1]
    assert {name: client["same_as"] for name, client in clients(entry).items()} == {
        "ada": "eve",
        "bob": None,
        "eve": "ada",
    }
