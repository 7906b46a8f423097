"""A reply that cannot count is refused by the right word, and the others' sum is bit for bit what it is without it."""

from dataclasses import replace

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import decode_adapter, encode_adapter
from common.errors import RunError
from server.rounds.observer import RunObserver
from server.storage.journal_reader import verify_journal
from tests.helpers.server.exchange import MemoryExchange
from tests.helpers.server.runs import FOUR, clients, fresh, hashes, plan, run


def values(**changes):
    return lambda reply: replace(reply, values=dict(reply.values) | changes)


def factors(change):
    """Return the reply with other factors in its buffer."""
    return lambda reply: replace(reply, blob=encode_adapter(change(decode_adapter(reply.blob))))


def only_in(name, side, number):
    """Return the adapter with one entry of one factor replaced."""

    def change(adapter):
        arrays = {"a": adapter[name].a.copy(), "b": adapter[name].b.copy()}
        arrays[side][0, 0] = number
        return Adapter(dict(adapter) | {name: Factors(**arrays)})

    return change


def renamed(adapter):
    return Adapter({name.replace("query", "key"): f for name, f in adapter.items()})


def turned(adapter):
    return Adapter({name: Factors(f.b.T, f.a.T) for name, f in adapter.items()})


BROKEN = {
    "nan in a": ("nan", factors(only_in("query", "a", np.nan))),
    "nan in b": ("nan", factors(only_in("head", "b", np.nan))),
    "infinite": ("nan", factors(only_in("value", "b", np.inf))),
    "nan as loss": ("nan", values(loss=float("nan"))),
    "wrong shape": ("shape", factors(turned)),
    "renamed module": ("shape", factors(renamed)),
    "missing module": ("shape", factors(lambda adapter: Adapter({"query": adapter["query"]}))),
    "wrong rank": ("rank", factors(lambda adapter: Adapter({name: f.leading_part(2) for name, f in adapter.items()}))),
    "weight of 10^12": ("weight", values(examples=10**12)),
    "weight of 0": ("weight", values(examples=0)),
    "weight of -1": ("weight", values(examples=-1)),
    "weight of True": ("weight", values(examples=True)),
    "weight of 1.5": ("weight", values(examples=1.5)),
    "stale round": ("stale", values(round=0)),
    "older attempt": ("stale", values(attempt=0)),
    "other run": ("stale", values(run="another")),
    "other parent": ("stale", values(parent="0" * 64)),
    "other base": ("base", values(base="another")),
    "truncated": ("codec", lambda reply: replace(reply, blob=reply.blob[:-1])),
    "no buffer": ("codec", lambda reply: replace(reply, blob=b"")),
    "no values": ("malformed", lambda reply: replace(reply, values={})),
    "an error": ("failed", lambda reply: "failed"),
    "silence": ("absent", lambda reply: "absent"),
}


def tampering(change, names=("eve",), number=1):
    """Nodes of which some reply something else to the order of one round."""
    messenger = fresh()
    messenger.tamper = lambda name, kind, at, reply: (
        change(reply) if kind == "train" and name in names and at == number else reply
    )
    return messenger


@pytest.fixture(scope="module")
def without_eve(tmp_path_factory):
    """Two rounds, of which eve is connected only in the second."""
    messenger = fresh()
    eve, observer = messenger.connected.pop(103), RunObserver()
    observer.on_round_committed = lambda record: record["round"] == 1 and messenger.connected.update({103: eve})
    return hashes(run(tmp_path_factory.mktemp("run"), messenger, plan(2), observer))


@pytest.mark.parametrize("case", BROKEN)
def test_the_others_sum_is_as_without_it(case, without_eve, tmp_path):
    reason, change = BROKEN[case]
    entries = run(tmp_path, tampering(change), plan(2))
    record = clients(entries[1])["eve"]
    assert (record["status"], record["reason"]) == ("absent" if reason == "absent" else "refused", reason)
    assert (record["share"], record["update"]) == (0.0, None)
    assert hashes(entries) == without_eve
    assert clients(entries[2])["eve"]["status"] == "ok"
    assert entries[1]["metrics"]["aggregation_error"] <= 1e-6


def test_one_that_is_admitted_changes_the_sum(without_eve, tmp_path):
    assert hashes(run(tmp_path, tampering(lambda reply: reply), plan(2)))[1] != without_eve[1]


@pytest.mark.parametrize("algorithm", ["increments", "hetlora"])
def test_it_holds_for_other_rules_and_another_client(algorithm, tmp_path):
    settings = plan(2, algorithm=algorithm)
    silent = run(tmp_path / "one", tampering(lambda reply: "absent", ["bob"]), settings)
    broken = run(tmp_path / "two", tampering(factors(only_in("query", "a", np.nan)), ["bob"]), settings)
    assert hashes(silent) == hashes(broken)


def test_a_foreign_a_cannot_spoil_the_common_one(tmp_path):
    """In mode b the sum of B's is under the A that all were lent; a client that sends another is refused."""

    def foreign(reply):
        modules = {name: Factors(np.ones((min(4, *shape), shape[1]), "f4"), zeros(shape)) for name, shape in shapes}
        return replace(reply, blob=encode_adapter(Adapter(modules)))

    def zeros(shape):
        return np.zeros((shape[0], min(4, *shape)), "f4")

    shapes = FOUR[0].shapes.items()
    silent = run(tmp_path / "one", tampering(lambda reply: "absent"), plan(1, mode="b"))
    broken = run(tmp_path / "two", tampering(foreign), plan(1, mode="b"))
    assert hashes(silent) == hashes(broken)
    assert clients(broken[1])["eve"]["reason"] == "malformed"


def test_a_name_that_would_leave_the_spool_is_turned_away(tmp_path):
    entries = run(tmp_path / "journal", MemoryExchange([*FOUR, replace(FOUR[3], name="../eve")]), plan(1))
    assert clients(entries[1])["../eve"]["reason"] == "name"
    assert not (tmp_path / "journal" / "eve").exists()
    assert hashes(entries) == hashes(run(tmp_path / "other", fresh(), plan(1)))


ALL = [node.name for node in FOUR]


@pytest.mark.parametrize(("number", "good"), [(1, 0), (2, 1)])
def test_if_all_are_refused_the_run_stops_at_the_last_good_round(number, good, tmp_path):
    undisturbed = hashes(run(tmp_path / "other", fresh(), plan(3)))
    message = rf"every client of round {number} was rejected \(ada: nan, .*eve: nan\); round {good} is intact"
    with pytest.raises(RunError, match=message) as error:
        run(tmp_path / "run", tampering(factors(only_in("query", "b", np.nan)), ALL, number), plan(3))
    assert error.value.exit_status == 1
    assert hashes(verify_journal(tmp_path / "run")) == undisturbed[: good + 1]
    assert hashes(run(tmp_path / "run", fresh(), plan(3))) == undisturbed
