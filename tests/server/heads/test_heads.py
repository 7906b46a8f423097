"""Whole runs with heads in closed form: made before round 1 and at the end, exact, repeatable, and refused by name."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from common.adapters.codec import decode_adapter
from common.adapters.link_codecs import form_of
from common.errors import ConfigError, RunError
from common.heads.class_sums import ClassSums, pack_sums, sum_rows, unpack_sums
from common.heads.closed_form import PENALTIES, TEMPERATURES, as_factors, head_weight
from common.protocol.messages import FROZEN
from common.protocol.payload import Payload
from common.report.traffic import part_bytes
from server.monitoring.console import tell_head
from server.recompute import Recomputation
from server.rounds import quorum
from server.rounds.observer import RunObserver
from server.storage.kept_updates import read_kept
from tests.helpers.server.exchange import SHAPES, MemoryExchange, Recorded, dense
from tests.helpers.server.runs import FOUR, clients, hashes, plan_of
from tests.helpers.server.runs import run as run_plain
from tests.helpers.server.runs import run_new_head as run
from tests.helpers.server.runs import with_new_head as four

KINDS = pytest.mark.parametrize("kind", ["means", "lda"])
RULES = {
    "increments": {},
    "mode b, int8": {"mode": "b", "wire": "int8"},
    "changes": {"rank_change": 2, "rank_global": 4},
    "capped": {"rank_global": 1, "rank_kept": 1},
    "fedlin": {"algorithm": "fedlin", "mode": "b"},
    "fedsgd": {"algorithm": "fedsgd"},
    "fedsgd, hold": {"algorithm": "fedsgd", "hold": 1, "rank_global": 1, "rank_kept": 2},
}


def asked(rounds, kind, **server):
    return plan_of(rounds, {"head": kind}, **server)


def pooled(gram):
    features, labels = zip(*(node.features("rows", node.rows) for node in FOUR), strict=True)
    return sum_rows(np.concatenate(features), np.concatenate(labels), SHAPES["head"][0], gram)


def broadcast(messenger, number):
    """Return the global update after a round, as a node received it to evaluate."""
    return decode_adapter(messenger.connected[100].held[messenger.payloads["evaluate", number, "ada"].values["parent"]])


@KINDS
@pytest.mark.parametrize("rule", RULES)
def test_round_0_ends_with_the_head_of_all_rows_together(kind, rule, tmp_path):
    entries = run(tmp_path, messenger := Recorded(four()), asked(2, kind, **RULES[rule], evaluate_every=1))
    record = entries[0]["head"]
    assert record["kept"]
    expected = dense(as_factors(head_weight(pooled(kind == "lda"), kind, record["lambda"]), record["temperature"]))
    found = dense(broadcast(messenger, 0)["head"])
    tolerance = 1e-5 if "int8" in rule else 1e-6
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)
    assert record["loss"] < record["loss_trained"] == pytest.approx(np.log(3))
    assert record["rows"] == sum(node.rows for node in FOUR)
    assert all(entry["metrics"]["aggregation_error"] <= 1e-6 for entry in entries[1:])


@KINDS
def test_nothing_of_it_is_cut_from_the_broadcast_by_a_low_rank(kind, tmp_path):
    """The control is the rank of another module, which is cut."""
    settings = asked(3, kind, rank_global=1, rank_kept=1, evaluate_every=1)
    run(tmp_path, messenger := Recorded(four()), settings)
    ranks = {name: factors.rank for name, factors in broadcast(messenger, 2).items()}
    assert (ranks["head"], ranks["query"], ranks["value"]) == (3, 1, 1)


@pytest.mark.parametrize("rule", RULES)
def test_stopped_anywhere_it_ends_with_the_same_bits(rule, tmp_path):
    settings = asked(2, "lda", **RULES[rule])
    reference = run(tmp_path / "reference", MemoryExchange(four()), settings)

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
            run(tmp_path / "run", MemoryExchange(four()), settings, Stopper(number))
    assert hashes(run(tmp_path / "run", MemoryExchange(four()), settings)) == hashes(reference)


def test_the_refit_is_kept_only_if_it_is_better(tmp_path):
    """Under NumPy nodes features do not change, so that the head of round 0 is hard to beat, and training spoils it."""
    entries = run(tmp_path / "spoilt", MemoryExchange(four()), asked(3, "lda"))
    last = entries[-1]["head"]
    assert last["kept"] == (last["loss"] < last["loss_trained"])
    assert [("head" in entry) for entry in entries] == [True, False, False, True]
    assert [("head" in entry["metrics"]) for entry in entries] == [True, False, False, True]
    assert "sums" not in entries[0]["metrics"]["head"]

    def flattered(name, kind, number, reply):
        """Let the trained head look perfect at the end."""
        if isinstance(reply, Payload) and "losses" in reply.values and number == 3:
            losses = reply.values["losses"]
            return replace(reply, values={**reply.values, "losses": [0.0] * 6 + losses[6:]})
        return reply

    other = run(tmp_path / "other", MemoryExchange(four(), flattered), asked(3, "lda"))
    assert not other[-1]["head"]["kept"]
    assert hashes(other)[:3] == hashes(entries)[:3]


@pytest.mark.parametrize("rule", RULES)
def test_verify_makes_the_head_again(rule, tmp_path):
    settings = asked(2, "lda", **RULES[rule], keep_updates="all")
    entries = run(tmp_path, MemoryExchange(four()), settings)
    facts = read_kept(tmp_path, entries[2])
    assert Recomputation(tmp_path, entries, 2, settings, facts).run() == 0


@KINDS
@pytest.mark.parametrize("most", [None, 7])
def test_verify_makes_a_refit_of_scaled_sums_again(kind, most, tmp_path):
    """A limit of the roster scales a node's counts, here 40 rows to 7 and its classes to parts of rows."""

    def spoil(name, exchange_kind, number, reply):
        """Let the trained head look bad at the end, so that the refit is kept."""
        if isinstance(reply, Payload) and "losses" in reply.values and number == 2:
            return replace(reply, values={**reply.values, "losses": [1e9] * 6 + reply.values["losses"][6:]})
        return reply

    settings, messenger = asked(2, kind, keep_updates="all"), MemoryExchange(four(), spoil)
    entries = run(tmp_path, messenger, settings, limit=lambda name: most if name == "eve" else None)
    assert entries[2]["head"]["kept"]
    assert entries[2]["head"]["rows"] == 10 + 20 + 5 + (most or 40)
    assert Recomputation(tmp_path, entries, 2, settings, read_kept(tmp_path, entries[2])).run() == 0


def sums_of(reply):
    return isinstance(reply, Payload) and "left_out" in reply.values


@pytest.mark.parametrize("word", ["absent", "failed", "a blob", "other values", "another round"])
def test_a_node_without_valid_sums_is_left_out_and_the_rest_goes_on(word, tmp_path):
    def spoil(name, kind, number, reply):
        if name != "eve" or not sums_of(reply):
            return reply
        if word == "a blob":
            return replace(reply, blob=reply.blob[:-1] + b"x")
        if word == "other values":
            return replace(reply, values={**reply.values, "rows": -1})
        return replace(reply, values={**reply.values, "round": 9}) if word == "another round" else word

    entries = run(tmp_path, MemoryExchange(four(), spoil), asked(2, "lda"))
    assert set(entries[0]["head"]["sums"]) == {"ada", "bob", "cyd"}
    assert entries[0]["head"]["rows"] == sum(node.rows for node in FOUR) - 40
    assert clients(entries[1])["eve"]["status"] == "ok"


def lost(names, rounds):
    """Return a tamper that loses the sums of these nodes in these rounds."""
    return lambda name, kind, number, reply: (
        "failed" if sums_of(reply) and name in names and number in rounds else reply
    )


def test_with_fewer_than_the_quorum_at_the_start_there_is_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(quorum, "PAUSE", 0.0)
    settings = replace(asked(2, "lda"), quorum=3, attempts=2)
    with pytest.raises(RunError, match=r"no head in closed form could be made in 2 attempts.*class sums of 3 nodes"):
        run(tmp_path, MemoryExchange(four(), lost(("ada", "bob"), (0,))), settings)
    messenger, left = MemoryExchange(four()), [2]

    def lose_two(name, kind, number, reply):
        if sums_of(reply) and left[0]:
            left[0] -= 1
            return "failed"
        return reply

    messenger.tamper = lose_two
    assert len(run(tmp_path, messenger, settings)[0]["head"]["sums"]) == 4  # at the second attempt


@pytest.mark.parametrize("cohort", [None, 3])
def test_bytes_of_an_attempt_that_made_no_head_are_told(cohort, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(quorum, "PAUSE", 0.0)
    settings, moved, left = replace(asked(1, "lda", cohort=cohort), quorum=3, attempts=2), Counter(), [2]

    class Counting(MemoryExchange):
        def request(self, kind, payloads, number, grace=None):
            for node, reply in super().request(kind, payloads, number, grace):
                moved["down"] += payloads[node].size if kind != "query" else 0
                moved["up"] += len(reply.blob) if isinstance(reply, Payload) else 0
                yield node, reply

    def lose_two(name, kind, number, reply):
        if sums_of(reply) and left[0]:
            left[0] -= 1
            return "failed"
        return reply

    entries = run(tmp_path, Counting(four(), lose_two), settings)
    assert not left[0]
    told = Counter({way: sum(e["metrics"][f"bytes_{way}"] for e in entries) for way in ("down", "up")})
    parts = sum((part_bytes(entry["metrics"]) for entry in entries), Counter())
    assert told == moved
    assert parts.pop("up") == moved["up"]
    assert parts.total() == moved["down"]
    assert "ada: its reply for a head in closed form does not count: failed" in caplog.text


def test_with_fewer_than_the_quorum_at_the_end_the_trained_head_stays_and_it_is_said(tmp_path):
    settings = replace(asked(2, "lda"), quorum=3)
    entries = run(tmp_path, MemoryExchange(four(), lost(("ada", "bob"), (2,))), settings)
    found = entries[-1]["head"]
    assert (found["kind"], found["kept"], found["reason"]) == ("lda", False, "quorum")
    assert entries[-1]["round"] == 2


def test_a_head_that_nobody_measured_is_kept_at_the_start_alone(tmp_path):
    def silent(name, kind, number, reply):
        return "failed" if isinstance(reply, Payload) and "losses" in reply.values else reply

    entries = run(tmp_path, MemoryExchange(four(), silent), asked(2, "lda"))
    told = [(entry["head"]["kept"], entry["head"]["loss"]) for entry in (entries[0], entries[2])]
    assert told == [(True, None), (False, None)]
    smoothest = entries[0]["head"]
    assert (smoothest["lambda"], smoothest["temperature"]) == (max(PENALTIES["lda"]), max(TEMPERATURES))


def test_features_of_which_no_finite_head_comes_are_told_of_as_such(tmp_path):
    def shrink(name, kind, number, reply):
        if not sums_of(reply) or number != 1:
            return reply
        sums = unpack_sums(reply.blob, *SHAPES["head"], gram=False)
        return replace(
            reply, blob=pack_sums(ClassSums(np.hstack([1e-45 * sums.classes[:, :-1], sums.classes[:, -1:]])))
        )

    head = run(tmp_path, MemoryExchange(four(), shrink), asked(1, "means"))[-1]["head"]
    assert (head["kept"], head["reason"]) == (False, "singular")
    assert "no finite one" in tell_head(head)
    assert "too few nodes" in tell_head({**head, "reason": "quorum"})  # control


LIES = {
    "long sums": lambda sums: (1e30 * sums.classes[:, :-1], 1e60),
    "long sums that overflow": lambda sums: (1e160 * sums.classes[:, :-1], None),
    "a short Gram matrix": lambda sums: (1e3 * sums.classes[:, :-1], 1.0),
}


@KINDS
@pytest.mark.parametrize("lie", LIES)
def test_a_node_that_lies_about_its_sums_does_not_move_the_head(kind, lie, tmp_path, caplog):
    """Sums that contradict each other are refused; of others, those that are far from all other nodes'."""
    reference = run(tmp_path / "reference", MemoryExchange(four()), asked(1, kind))

    def spoil(name, exchange_kind, number, reply):
        if name != "eve" or not sums_of(reply):
            return reply
        honest = unpack_sums(reply.blob, *SHAPES["head"], kind == "lda")
        sums, square = LIES[lie](honest)
        classes, gram = np.hstack([sums, honest.classes[:, -1:]]), None
        if kind == "lda":
            gram = (square or 1.0) * honest.gram
            gram[-1], gram[:, -1] = classes.sum(axis=0), classes.sum(axis=0)
        return replace(reply, blob=pack_sums(ClassSums(classes, gram)))

    entries = run(tmp_path / "lied", MemoryExchange(four(), spoil), asked(1, kind))
    head = entries[0]["head"]
    assert "eve" not in head["sums"]
    assert ("eve" in tell_head(head)) == ("eve" in head["refused"]) != ("eve: its reply" in caplog.text)
    assert head["loss"] < 2 * reference[0]["head"]["loss"] + 0.1


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1.7e308, -1e12, 1e12])
def test_a_node_that_lies_about_losses_weighs_as_the_roster_lets_it(loss, tmp_path):
    def spoil(name, kind, number, reply):
        if name != "eve" or not isinstance(reply, Payload) or "losses" not in reply.values:
            return reply
        losses = [*[loss] * (len(reply.values["losses"]) - 1), 0.0]
        return replace(reply, values={**reply.values, "losses": losses, "count": 10**9})

    entries = run(tmp_path, MemoryExchange(four(), spoil), asked(1, "lda"), limit=lambda name: 4)
    head = entries[0]["head"]
    assert head["held_out"] == 16
    assert head["kept"]
    assert 0 <= head["loss"] < 10 * np.log(3)


def test_changes_are_sent_beside_a_head(tmp_path):
    settings = asked(6, "lda", rank_change=2, rank_global=40, evaluate_every=6)
    run(tmp_path, messenger := Recorded(four()), settings)
    forms = [form_of(messenger.payloads["train", number, "ada"].parts[FROZEN]) for number in range(1, 7)]
    assert forms == ["held", "whole", "change", "change", "change", "change"]  # after the head alone, all is new


def test_a_node_counts_as_no_more_rows_than_the_roster_allows(tmp_path):
    entries = run(tmp_path, MemoryExchange(four()), asked(1, "lda"), limit=lambda name: 10 if name == "eve" else None)
    assert entries[0]["head"]["rows"] == 10 + 20 + 5 + 10


def test_bytes_are_counted_as_the_heads(tmp_path):
    entries = run(tmp_path, Recorded(four()), asked(2, "lda"))
    for entry in (entries[0], entries[2]):
        for client in clients(entry).values():
            assert client["bytes_by_part"]["head"] > 0
            assert sum(client["bytes_by_part"].values()) == client["bytes_down"]
    assert clients(entries[0])["ada"]["bytes_up"] > 500
    assert "head" not in clients(entries[1])["ada"]["bytes_by_part"]


def test_beside_changes_the_head_stays_within_the_rank_of_the_broadcast(tmp_path):
    settings = asked(12, "lda", rank_change=1, rank_global=6, evaluate_every=1)
    run(tmp_path, messenger := Recorded(four()), settings)
    ranks = [broadcast(messenger, number)["head"].rank for number in range(13)]
    assert max(ranks) <= 3 + 6


def test_bytes_of_nodes_outside_the_cohort_are_told(tmp_path):
    entries = run(tmp_path, MemoryExchange(four()), asked(2, "lda", cohort=2))
    head = entries[0]["head"]
    assert len(head["sums"]) == 4
    assert len(clients(entries[0])) == 2
    assert head["others_bytes_up"] > 500


@pytest.mark.parametrize("algorithm", ["hetlora", "fedit"])
def test_a_rule_that_has_no_sum_takes_none(algorithm, tmp_path):
    with pytest.raises(ConfigError, match=r'\[lora\] head = "lda", but algorithm = "\w+".*"increments" or "fedsgd"'):
        run(tmp_path, MemoryExchange(four()), asked(1, "lda", algorithm=algorithm))


def test_a_model_without_a_new_head_takes_none(tmp_path):
    with pytest.raises(ConfigError, match=r'\[lora\] head = "means" makes a new classification head, and this base'):
        run_plain(tmp_path, MemoryExchange([replace(node, held={}) for node in FOUR]), asked(1, "means"))
