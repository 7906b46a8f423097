"""Requests for gradients: whose rows are drawn, where they begin, and which reply of a node is named as counted."""

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.settings.recipe import LoraSettings, Server, Train
from server.algorithms.optimizer import Optimizer
from server.rounds import quorum
from server.rounds.run_settings import RunSettings
from tests.helpers.server.exchange import NumpyNode, Recorded
from tests.helpers.server.runs import FOUR, clients, plan, run

STEPS, BATCH = 3, 16
ROWS = {node.name: node.rows for node in FOUR}


def settings(rounds=3, **server):
    return plan(rounds, algorithm="fedsgd", norm_bound=0.0, **server)


def asked(messenger, number, name, *keys):
    """Return values of the request of a round to a node."""
    return tuple(messenger.payloads["train", number, name].values[key] for key in keys)


def test_rows_are_drawn_in_proportion_to_those_of_the_nodes_and_batch_is_the_mean(tmp_path):
    messenger = Recorded(FOUR)
    run(tmp_path, messenger, settings())
    draws = {name: asked(messenger, 1, name, "draw")[0] for name in ROWS}
    mean = 4 * BATCH / sum(ROWS.values())
    assert draws == {name: round(mean * rows) for name, rows in ROWS.items()}
    assert len(set(draws.values())) > 1


@pytest.mark.parametrize("weights", ["uniform", "rows", "examples"])
def test_draws_are_equal_only_where_weights_are(weights, tmp_path):
    messenger = Recorded(FOUR)
    run(tmp_path, messenger, settings(1, weights=weights))
    draws = {asked(messenger, 1, name, "draw")[0] for name in ROWS}
    assert (draws == {BATCH}) == (weights == "uniform")


def test_the_roster_caps_the_rows_that_a_node_reads_and_its_weight(tmp_path):
    most = min(ROWS, key=ROWS.get), max(ROWS, key=ROWS.get)
    messenger = Recorded(FOUR)
    entries = run(tmp_path, messenger, settings(1), limit={most[1]: 6}.get)
    capped = ROWS | {most[1]: 6}
    shares = {name: record["share"] for name, record in clients(entries[1]).items()}
    assert shares == pytest.approx({name: rows / sum(capped.values()) for name, rows in capped.items()})
    assert asked(messenger, 1, most[1], "draw")[0] * STEPS <= 6


@pytest.mark.parametrize("rows", [0, 6])
def test_the_roster_caps_a_node_s_weight_whatever_predictions_it_announces(tmp_path, rows):
    messenger, announced = Recorded(FOUR), {"rows": rows, "predictions": 10**15}
    messenger.tamper = lambda name, kind, number, reply: (
        replace(reply, values={**reply.values, **announced}) if (name, kind) == ("ada", "query") else reply
    )
    entries = run(tmp_path, messenger, settings(1), limit={"ada": 6}.get)
    total = 6 + sum(own for name, own in ROWS.items() if name != "ada")
    assert clients(entries[1])["ada"]["share"] == pytest.approx(6 / total)


def test_a_number_bounds_the_norm_of_a_gradient(tmp_path):
    entries = run(tmp_path, Recorded(FOUR), plan(1, algorithm="fedsgd", norm_bound=0.5))
    for record in clients(entries[1]).values():
        assert record["clip"] * record["norm"] == pytest.approx(min(record["norm"], 0.5))
        assert record["clip"] < 1


def test_a_node_with_hardly_any_rows_still_draws_one():
    found = RunSettings(7, LoraSettings(), Train(rounds=2), Server(), "hash").exchange(
        1, {"ada": 1, "bob": 10**6}, {"ada": 3}.get, {"bob": 40}, 0
    )
    assert {name: (each.draw, each.begin) for name, each in found.items()} == {"ada": (1, 0), "bob": (32, 40)}


@pytest.mark.parametrize("hold", ["never", 2])
def test_the_rate_that_nodes_are_told_is_that_of_the_servers_step(hold, tmp_path, monkeypatch):
    stepped, step = [], Optimizer.step
    monkeypatch.setattr(Optimizer, "step", lambda *words: stepped.append(words[-1]) or step(*words))
    messenger = Recorded(FOUR)
    run(tmp_path, messenger, settings(4, hold=hold))
    told = [asked(messenger, number, "ada", "learning_rates")[0] for number in (1, 2, 3, 4)]
    assert [set(rates) for rates in told] == [{rate} for rate in dict.fromkeys(stepped)]
    assert [len(rates) for rates in told] == [STEPS] * 4
    assert told[0][0] < told[1][0]  # the warm-up goes on from one exchange to the next
    assert (told[2][0] < told[1][0] / 2) == (hold == 2)  # and begins again with a new A


def test_a_nodes_rows_go_on_after_those_behind_its_replies_that_counted(tmp_path):
    messenger = Recorded(FOUR)
    entries = run(tmp_path, messenger, settings())
    for name in ROWS:
        read = 0
        for number in (1, 2, 3):
            assert asked(messenger, number, name, "begin") == (read,)
            read += clients(entries[number])[name]["examples"]
        assert read > 0


@dataclass(frozen=True)
class Inflated(NumpyNode):
    """A node that sends a gradient a thousand times as large as its own."""

    def train(self, assignment, training):
        update = super().train(assignment, training)
        large = {side: Factors(f.a, np.float32(1e3) * f.b) for side, f in update.adapter.items()}
        return replace(update, adapter=Adapter(large))


def test_the_last_reply_that_counted_is_named_by_round_hash_and_clip_factor(tmp_path):
    large = Inflated(FOUR[3].name, FOUR[3].rank, FOUR[3].rows)
    messenger = Recorded([*FOUR[:3], large])
    keys = "counted_round", "counted_update", "counted_clip"
    entries = run(tmp_path, messenger, plan(2, algorithm="fedsgd"))
    for name in ROWS:
        assert asked(messenger, 1, name, *keys) == (0, "", 1.0)
        clip = clients(entries[1])[name]["clip"]
        sent = sha256(messenger.replies["train", 1, name].blob).hexdigest()
        assert asked(messenger, 2, name, *keys) == (1, sent, clip)
        assert clip < 0.1 if name == large.name else clip == 1


def test_no_reply_from_before_a_new_draw_of_a_is_named(tmp_path):
    messenger = Recorded(FOUR)
    run(tmp_path, messenger, settings(4, hold=2))
    named = [asked(messenger, number, "ada", "counted_round")[0] for number in (1, 2, 3, 4)]
    assert named == [0, 1, 0, 3]


def test_a_reply_that_was_refused_late_or_of_an_abandoned_attempt_is_never_named(tmp_path, monkeypatch):
    monkeypatch.setattr(quorum, "PAUSE", 0.0)

    def tamper(name, kind, number, reply):
        if kind != "train":
            return reply
        if number == 2 and reply.values["attempt"] == 1 and name != "ada":
            return "absent"  # too few: the attempt is abandoned, and ada has replied in vain
        if number == 3 and name == "ada":
            return type(reply)({**reply.values, "examples": 10**9}, reply.blob)  # refused: more rows than were asked
        return reply

    messenger = Recorded(FOUR[:3])
    messenger.tamper = tamper
    entries = run(tmp_path, messenger, replace(settings(4), quorum=2, attempts=3))
    assert clients(entries[3])["ada"]["status"] == "refused"
    assert asked(messenger, 4, "ada", "counted_round") == (2,)
    assert asked(messenger, 4, "ada", "counted_update") == (clients(entries[2])["ada"]["update"],)
    assert asked(messenger, 4, "bob", "counted_round") == (3,)
    two_rounds = sum(clients(entries[number])["ada"]["examples"] for number in (1, 2))
    assert asked(messenger, 4, "ada", "begin") == (two_rounds,)


class Stopped(Exception):
    """The server is gone."""


def test_a_run_that_stops_and_goes_on_asks_the_same(tmp_path):
    whole, halves = Recorded(FOUR), Recorded(FOUR)
    ends = run(tmp_path / "whole", whole, settings(4))

    def stop(name, kind, number, reply):
        if kind == "train" and number == 3:
            raise Stopped
        return reply

    halves.tamper = stop
    with pytest.raises(Stopped):
        run(tmp_path / "halves", halves, settings(4))
    halves.tamper = lambda name, kind, number, reply: reply
    again = run(tmp_path / "halves", halves, settings(4))
    assert [entry["adapter_hash"] for entry in again] == [entry["adapter_hash"] for entry in ends]
    keys = "draw", "begin", "counted_round", "counted_update", "counted_clip"
    for name in ROWS:
        assert [asked(whole, n, name, *keys) for n in (3, 4)] == [asked(halves, n, name, *keys) for n in (3, 4)]


def test_a_late_joiner_begins_its_own_epoch_without_a_memory(tmp_path):
    late = FOUR[3]
    messenger = Recorded(FOUR[:3])

    def tamper(name, kind, number, reply):
        if kind == "train" and number == 1:
            messenger.connected[103] = late
        return reply

    messenger.tamper = tamper
    entries = run(tmp_path, messenger, replace(settings(4), quorum=2))
    assert late.name not in clients(entries[1])
    joined = next(n for n in (2, 3) if late.name in clients(entries[n]))
    assert asked(messenger, joined, late.name, "begin", "counted_round") == (0, 0)
    assert asked(messenger, joined, "ada", "counted_round") == (joined - 1,)
