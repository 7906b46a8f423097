"""Rounds that need a number of updates: tried again from the same parent, then given up with the reasons."""

import time
from dataclasses import replace

import pytest

from common.errors import RunError
from server.rounds.observer import RunObserver
from server.rounds.quorum import wait_for_nodes
from server.storage.journal import verify_journal
from tests.helpers.server.exchange import MemoryExchange, NumpyNode, Recorded
from tests.helpers.server.runs import FOUR, Each, clients, fresh, hashes, plan, run


class Watcher(RunObserver):
    """Keeps what it is told of waiting and of abandoned rounds."""

    def __init__(self):
        self.waits, self.abandoned = [], []

    def on_waiting(self, connected, needed):
        self.waits.append((connected, needed))

    def on_round_abandoned(self, number, attempt, reasons):
        self.abandoned.append((number, attempt, dict(reasons)))


class Arriving(MemoryExchange):
    """Nodes connect one by one, each at the third look."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.looks = 0

    def nodes(self):
        self.looks += 1
        return list(self.connected)[: self.looks // 3]


@pytest.fixture
def pauses(monkeypatch):
    """Record the seconds of each pause, and skip the pauses."""
    taken = []
    monkeypatch.setattr(time, "sleep", taken.append)
    return taken


def deployed(rounds=2, quorum=3, attempts=3, **server):
    return replace(plan(rounds, **server), quorum=quorum, attempts=attempts)


def failing(names, attempts, number=1, messenger=None):
    """Nodes of which some fail to train in the first attempts at a round."""
    messenger, tried = messenger or fresh(), dict.fromkeys(names, 0)

    def tamper(name, kind, at, reply):
        if kind != "train" or at != number or name not in tried:
            return reply
        tried[name] += 1
        return "failed" if tried[name] <= attempts else reply

    messenger.tamper = tamper
    return messenger


# --- before the first round ---


def test_it_waits_until_enough_nodes_are_connected(pauses):
    messenger, watcher = Arriving(FOUR), Watcher()
    wait_for_nodes(messenger, 3, watcher, poll=0.25)
    assert watcher.waits == [(0, 3), (1, 3), (2, 3)]  # once for each number, not for each look
    assert (messenger.looks, pauses) == (9, [0.25] * 8)


def test_it_does_not_wait_where_enough_are_there(pauses):
    watcher = Watcher()
    wait_for_nodes(fresh(), 4, watcher)
    assert (watcher.waits, pauses) == ([], [])


# --- attempts ---


def test_an_abandoned_attempt_leaves_no_trace_in_the_result(tmp_path, pauses):
    undisturbed = hashes(run(tmp_path / "other", fresh(), plan(2)))
    watcher = Watcher()
    messenger = failing(["ada", "bob"], attempts=2)
    entries = run(tmp_path / "run", messenger, deployed(), watcher)
    assert hashes(entries) == undisturbed
    assert watcher.abandoned == [(1, attempt, {"ada": "failed", "bob": "failed"}) for attempt in (1, 2)]
    assert pauses == [5.0, 10.0]
    assert {record["status"] for record in clients(entries[1]).values()} == {"ok"}
    assert [number for kind, number, _ in messenger.asked if kind == "train"] == [1, 1, 1, 2]


def test_an_attempt_has_the_parent_and_the_streams_of_the_first(tmp_path, pauses):
    class Every(Recorded):
        orders = ()

        def request(self, kind, payloads, number):
            if kind == "train":
                self.orders = (*self.orders, dict(next(iter(payloads.values())).values))
            return super().request(kind, payloads, number)

    messenger = failing(["ada", "bob"], attempts=1, messenger=Every(FOUR))
    run(tmp_path, messenger, deployed(rounds=2))
    first, second, following = messenger.orders
    assert second == first | {"attempt": 2}
    assert (following["round"], following["attempt"]) == (2, 1)
    assert following["parent"] != first["parent"]


def test_a_reply_to_an_earlier_attempt_is_stale(tmp_path, pauses):
    messenger = failing(["ada", "bob"], attempts=1)
    failed, earlier = messenger.tamper, {}

    def tamper(name, kind, number, reply):
        if kind == "train" and number == 1 and name == "eve":
            reply = earlier.setdefault(name, reply)
        return failed(name, kind, number, reply)

    messenger.tamper = tamper
    entries = run(tmp_path, messenger, deployed())
    assert (clients(entries[1])["eve"]["reason"], clients(entries[1])["ada"]["status"]) == ("stale", "ok")


def test_a_quorum_is_enough(tmp_path, pauses):
    entries = run(tmp_path / "run", failing(["ada"], attempts=9), deployed(quorum=3))
    assert clients(entries[1])["ada"]["reason"] == "failed"
    assert hashes(entries) == hashes(run(tmp_path / "other", failing(["ada"], attempts=9), plan(2)))
    assert pauses == []


@pytest.mark.parametrize("number", [1, 2])
def test_after_the_last_attempt_the_run_stops_and_can_go_on(number, tmp_path, pauses):
    message = (
        rf"round {number} needs 3 updates, but 2 of 4 nodes count in the last of 3 attempts "
        rf"\(ada: failed, bob: failed\); round {number - 1} is intact: fix the cause, .*--resume"
    )
    with pytest.raises(RunError, match=message) as error:
        run(tmp_path / "run", failing(["ada", "bob"], attempts=3, number=number), deployed())
    assert error.value.exit_status == 1
    undisturbed = hashes(run(tmp_path / "other", fresh(), plan(2)))
    assert hashes(verify_journal(tmp_path / "run")) == undisturbed[:number]
    assert pauses == [5.0, 10.0]
    assert hashes(run(tmp_path / "run", fresh(), deployed())) == undisturbed


def test_if_all_are_refused_each_time_it_says_so(tmp_path, pauses):
    with pytest.raises(RunError, match="every client of round 1 was rejected in the last of 3 attempts"):
        run(tmp_path, failing([node.name for node in FOUR], attempts=9), deployed())


def test_a_plan_of_one_attempt_never_pauses(tmp_path, pauses):
    with pytest.raises(RunError, match="every client of round 1 was rejected \\("):
        run(tmp_path, failing([node.name for node in FOUR], attempts=9), plan(2))
    assert pauses == []


def test_nobody_trains_where_too_few_are_there(tmp_path, pauses):
    messenger = fresh()
    message = r"round 1 needs 5 updates, but 4 of 4 nodes count in the last of 3 attempts; round 0 is intact"
    with pytest.raises(RunError, match=message):
        run(tmp_path, messenger, deployed(quorum=5))
    assert "train" not in {kind for kind, *_ in messenger.asked}


def test_one_that_comes_while_the_round_is_tried_again_makes_the_quorum(tmp_path, monkeypatch):
    messenger = fresh()
    monkeypatch.setattr(time, "sleep", lambda seconds: messenger.connected.update({999: NumpyNode("zoe", 2)}))
    entries = run(tmp_path, messenger, deployed(quorum=5))
    assert clients(entries[1])["zoe"]["status"] == "ok"


def test_nodes_that_are_all_gone_for_a_moment_come_back(tmp_path, monkeypatch):
    messenger = fresh()
    all_four = dict(messenger.connected)
    monkeypatch.setattr(time, "sleep", lambda seconds: messenger.connected.update(all_four))
    gone = Each(committed=lambda number: number == 1 and messenger.connected.clear())
    assert hashes(run(tmp_path / "run", messenger, deployed(), gone)) == hashes(run(tmp_path / "o", fresh(), plan(2)))


def test_nodes_that_stay_away_end_the_run(tmp_path, pauses):
    messenger = fresh()
    gone = Each(committed=lambda number: number == 1 and messenger.connected.clear())
    with pytest.raises(RunError, match="no node answered; start the clients and run again with --resume"):
        run(tmp_path, messenger, deployed(), gone)
    assert len(pauses) == 2
