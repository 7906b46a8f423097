"""Whole runs with a budget: ranks agreed on before round 1, kept for good, exact under every rule, refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from common.adapters.codec import decode_adapter
from common.adapters.link_codecs import codec_named
from common.errors import ConfigError, RunError
from common.planning.ranks import assign_ranks, trained_parameters
from common.planning.requests import clip_energies
from common.protocol.messages import unpack_assignment
from common.protocol.payload import Payload
from common.report.traffic import part_bytes
from server.monitoring.console import tell_plan
from server.planning.plan import is_consistent
from server.recompute import Recomputation
from server.rounds import quorum
from server.rounds.observer import RunObserver
from server.storage.kept_updates import read_kept
from tests.helpers.server.exchange import SHAPES, MemoryExchange, Recorded, dense
from tests.helpers.server.runs import FOUR, clients, hashes, plan, plan_of
from tests.helpers.server.runs import run_new_head as run
from tests.helpers.server.runs import with_new_head as four

RULES = {
    "increments": {},
    "mode b, int8": {"mode": "b", "wire": "int8"},
    "changes": {"rank_change": 2, "rank_global": 4},
    "fedlin": {"algorithm": "fedlin", "mode": "b"},
    "fedsgd": {"algorithm": "fedsgd"},
    "fedsgd, b, hold": {"algorithm": "fedsgd", "mode": "b", "hold": 1},
    "fedit": {"algorithm": "fedit"},
    "hetlora": {"algorithm": "hetlora"},
}
BODY = {name: SHAPES[name] for name in ("query", "value")}
ONE_MODULE = 16
"""A budget of one rank of one module, which is the query: its gradient is larger on most nodes."""


def asked(rounds, budget, **server):
    return plan_of(rounds, {"budget": budget}, **server)


def nodes_for(rule):
    return four(rank=8) if "fedit" in rule else four()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("budget", [ONE_MODULE, 60])
def test_no_node_trains_a_module_beyond_its_planned_rank(rule, budget, tmp_path):
    settings = asked(2, budget, **RULES[rule], keep_updates="all", codec="plain")
    entries = run(tmp_path, messenger := Recorded(nodes_for(rule)), settings)
    ranks = entries[0]["plan"]["ranks"]
    assert 0 < trained_parameters(ranks, BODY) == entries[0]["plan"]["parameters"] <= budget
    assert (min(ranks.values()) == 0) == (budget == ONE_MODULE)
    for (kind, _, _), sent in messenger.payloads.items():
        if kind == "train":
            parts = {name: codec_named("plain").decode(part, {}) for name, part in sent.parts.items()}
            start = unpack_assignment(sent.values, sent.blob, parts).start
            assert all(start[name].rank <= rank for name, rank in ranks.items())
    errors = [entry["metrics"]["aggregation_error"] for entry in entries[1:]]
    assert rule in ("fedit", "hetlora") or max(errors) <= 1e-6
    for number in (1, 2):
        facts = read_kept(tmp_path, entries[number])
        assert Recomputation(tmp_path, entries, number, settings, facts).run() == 0.0


def test_the_control_without_a_budget_trains_all_at_the_nodes_rank(tmp_path):
    run(tmp_path, messenger := Recorded(four()), plan(1))
    for node in FOUR:
        sent = decode_adapter(messenger.payloads["train", 1, node.name].blob)
        assert {name: sent[name].rank for name in BODY} == {name: min(node.rank, *BODY[name]) for name in BODY}


def test_the_ranks_are_those_of_the_summed_votes(tmp_path):
    entries = run(tmp_path, MemoryExchange(four()), asked(1, 60))
    votes = [
        clip_energies([float(np.sum(node._gap(name, 0.0 * np.zeros(BODY[name])) ** 2)) for name in BODY])
        for node in four()
    ]
    record = entries[0]["plan"]
    assert record["energies"] == pytest.approx(dict(zip(BODY, np.sum(votes, axis=0), strict=True)))
    assert record["ranks"] == assign_ranks(record["energies"], BODY, 8, 60)
    assert is_consistent(record, SHAPES)
    assert not is_consistent({**record, "ranks": {**record["ranks"], "query": 0}}, SHAPES)
    assert "head" not in record["ranks"]
    assert "modules" in tell_plan(entries[0]["metrics"]["plan"])
    assert part_bytes(entries[0]["metrics"])["plan"] > 0 == part_bytes(entries[1]["metrics"])["plan"]


@pytest.mark.parametrize(("budget", "parameters"), [("4%", 40), ("160 B", 40), (40, 40)])
def test_a_budget_in_every_form(budget, parameters, tmp_path):
    """The nodes' base has 1,000 parameters."""
    record = run(tmp_path, MemoryExchange(four()), asked(1, budget))[0]["plan"]
    assert (record["budget"], trained_parameters(record["ranks"], BODY) <= parameters) == (parameters, True)


@pytest.mark.parametrize("rule", RULES)
def test_stopped_anywhere_it_ends_with_the_same_bits(rule, tmp_path):
    settings = asked(2, 60, **RULES[rule])
    reference = run(tmp_path / "reference", MemoryExchange(nodes_for(rule)), settings)

    class Stop(Exception):
        pass

    class Stopper(RunObserver):
        def __init__(self, number):
            self.number = number

        def on_evaluating(self, count):
            self.number -= 1
            if not self.number:
                raise Stop

    for number in (1, 2):
        with pytest.raises(Stop):
            run(tmp_path / "run", MemoryExchange(nodes_for(rule)), settings, Stopper(number))
    again = run(tmp_path / "run", messenger := Recorded(nodes_for(rule)), settings)
    assert hashes(again) == hashes(reference)
    assert not any("energies" in reply.values for reply in messenger.replies.values() if isinstance(reply, Payload))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: {**values, "energies": [1e9, 0.0]},
        lambda values: {**values, "energies": [1e308, 1e308]},  # Their sum overflows.
        lambda values: {**values, "energies": [-1.0, 0.5]},
        lambda values: {**values, "energies": [0.5]},
        lambda values: {**values, "energies": [float("nan"), 0.5]},
        lambda values: {**values, "parameters": 0},
        lambda values: {key: value for key, value in values.items() if key != "energies"},
        lambda values: {**values, "round": 1},
    ],
)
def test_a_spoilt_vote_does_not_count(spoil, tmp_path, caplog):
    def tamper(name, kind, number, reply):
        if name == "ada" and isinstance(reply, Payload) and "energies" in reply.values:
            return Payload(spoil(reply.values), reply.blob)
        return reply

    record = run(tmp_path, MemoryExchange(four(), tamper), asked(1, 60))[0]["plan"]
    assert record["nodes"] == sorted(node.name for node in FOUR if node.name != "ada")
    assert "ada: its reply for ranks under a budget does not count" in caplog.text


def test_a_lying_node_has_one_vote(tmp_path):
    """It says that all is in the query; the others' votes still count three to one."""

    def tamper(name, kind, number, reply):
        if name == "ada" and isinstance(reply, Payload) and "energies" in reply.values:
            return Payload({**reply.values, "energies": [1.0, 0.0], "parameters": 10**12}, reply.blob)
        return reply

    record = run(tmp_path, MemoryExchange(four(), tamper), asked(1, "4%"))[0]["plan"]
    assert sum(record["energies"].values()) <= 4.01
    assert record["energies"]["value"] > 1.0
    assert record["budget"] == 40  # The median node counts the base's parameters.


def test_too_few_votes_end_the_run_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(quorum, "PAUSE", 0.0)
    settings = replace(asked(1, 60), quorum=3, attempts=2)

    def tamper(name, kind, number, reply):
        return "policy" if kind == "evaluate" and number == 0 and name in ("ada", "bob") else reply

    names = {node.name for node in FOUR}
    assert {"ada", "bob"} <= names
    with pytest.raises(RunError, match=r"no ranks under \[lora\] budget could be agreed on in 2 attempts.* of 3 nodes"):
        run(tmp_path, MemoryExchange(four(), tamper), settings)
    assert run(tmp_path, MemoryExchange(four()), settings)[0]["plan"]["nodes"] == sorted(names)


@pytest.mark.parametrize(("budget", "is_asked"), [(5, False), ("20 B", False), ("0.5%", True)])
def test_a_budget_below_one_rank_is_refused_before_round_0_is_written(budget, is_asked, tmp_path):
    """Only nodes know what a share is of, so no node is asked about another budget."""
    with pytest.raises(ConfigError, match=r"\[lora\] budget = .*: 5 parameters are below one rank of the smallest"):
        run(tmp_path, messenger := Recorded(four()), asked(1, budget))
    assert bool(messenger.replies) == is_asked
    assert run(tmp_path, MemoryExchange(four()), asked(1, ONE_MODULE))[0]["plan"]["ranks"] == {"query": 1, "value": 0}


def test_with_a_head_in_closed_form_the_ranks_come_first(tmp_path):
    settings = asked(1, 60)
    settings = replace(settings, lora=replace(settings.lora, head="means"))
    entries = run(tmp_path, messenger := Recorded(four()), settings)
    assert entries[0]["head"]["kept"]
    assert entries[0]["plan"]["ranks"]
    update = decode_adapter(messenger.connected[100].held[messenger.payloads["train", 1, "ada"].values["parent"]])
    assert np.any(dense(update["head"]))
    assert clients(entries[0])["ada"]["bytes_by_part"]["plan"] > 0


@pytest.mark.parametrize("rule", ["increments", "fedsgd"])
def test_no_rank_is_planned_that_nobody_trains(rule, tmp_path):
    """The roster allows 8 and the nodes have 2 at most; under `fedsgd` all compute with the 8 that they share."""
    small = [replace(node, rank=min(node.rank, 2)) for node in four()]
    record = run(tmp_path, MemoryExchange(small), asked(1, 200, algorithm=rule))[0]["plan"]
    assert (record["largest"], max(record["ranks"].values())) == ((2, 2) if rule == "increments" else (8, 6))
