"""Rounds of more than one exchange: each phase has its own name on the wire, and none counts in another."""

from dataclasses import replace

import pytest

from common.errors import RunError
from server.storage.journal_reader import verify_journal
from tests.helpers.server.exchange import Recorded
from tests.helpers.server.runs import FOUR, clients, fresh, hashes, plan, run

TWO_PHASES = {"algorithm": "fedlin", "mode": "b"}


def in_phase(phase, change, names=("eve",)):
    """Return nodes of which some reply something else in one phase of round 1."""
    messenger = fresh()

    def tamper(name, kind, number, reply):
        asked = kind == "train" and number == 1 and name in names
        return change(reply) if asked and reply.values["phase"] == phase else reply

    messenger.tamper = tamper
    return messenger


def test_each_exchange_has_its_phase(tmp_path):
    messenger = Recorded(FOUR)
    asked = []
    messenger.arrange = lambda nodes: nodes
    keep = messenger.request

    def request(kind, payloads, number, grace=None):
        asked.extend(
            (kind, p.values.get("phase"), p.values.get("phases"), p.values.get("returns")) for p in payloads.values()
        )
        return keep(kind, payloads, number)

    messenger.request = request
    run(tmp_path, messenger, plan(1, **TWO_PHASES))
    trains = [entry[1:] for entry in asked if entry[0] == "train"]
    assert trains == [(1, 2, "gradient")] * 4 + [(2, 2, "update")] * 4


@pytest.mark.parametrize("phase", [1, 2])
@pytest.mark.parametrize(("reason", "wrong"), [("stale", 3), ("stale", 0), ("malformed", None)])
def test_a_reply_of_another_phase_does_not_count(phase, reason, wrong, tmp_path):
    def change(reply):
        values = {k: v for k, v in (dict(reply.values) | {"phase": wrong}).items() if v is not None}
        return replace(reply, values=values)

    entries = run(tmp_path, in_phase(phase, change), plan(2, **TWO_PHASES))
    record = clients(entries[1])["eve"]
    assert (record["status"], record["reason"], record["share"], record["update"]) == ("refused", reason, 0.0, None)
    assert sum(client["share"] for client in clients(entries[1]).values()) == pytest.approx(1)
    assert clients(entries[2])["eve"]["status"] == "ok"
    assert entries[1]["metrics"]["aggregation_error"] <= 1e-6


def test_the_reply_of_one_phase_is_stale_in_the_next(tmp_path):
    kept = {}

    def replay(name, kind, number, reply):
        if name != "eve" or kind != "train" or number != 1:
            return reply
        return kept.setdefault("first", reply)

    messenger = fresh()
    messenger.tamper = replay
    assert clients(run(tmp_path, messenger, plan(1, **TWO_PHASES))[1])["eve"]["reason"] == "stale"


@pytest.mark.parametrize("phase", [1, 2])
def test_a_phase_below_the_quorum_abandons_the_attempt_as_a_whole(phase, tmp_path):
    settings = replace(plan(1, **TWO_PHASES), quorum=4)
    with pytest.raises(RunError, match="round 1 needs 4 updates, but 3 of 4 nodes count"):
        run(tmp_path, in_phase(phase, lambda reply: "absent"), settings)
    assert len(verify_journal(tmp_path)) == 1
    once_more = run(tmp_path, fresh(), settings)
    assert hashes(once_more) == hashes(run(tmp_path / "whole", fresh(), settings))


def test_a_node_that_failed_one_phase_is_not_asked_in_the_next(tmp_path):
    messenger = in_phase(1, lambda reply: "failed")
    run(tmp_path, messenger, plan(1, **TWO_PHASES))
    cohorts = [sorted(names) for kind, number, names in messenger.asked if kind == "train"]
    assert cohorts == [["ada", "bob", "cyd", "eve"], ["ada", "bob", "cyd"]]


@pytest.mark.parametrize("algorithm", ["increments", "hetlora"])
def test_other_algorithms_have_one_phase_and_may_have_the_proximal_term(algorithm, tmp_path):
    plain, pulled = (
        hashes(run(tmp_path / str(mu), fresh(), plan(2, algorithm=algorithm, proximal=mu))) for mu in (0.0, 5.0)
    )
    assert plain[1] != pulled[1]
