"""Rounds that need a number of updates: tried again from the same parent, then given up with the reasons."""

import time
from dataclasses import replace
from math import inf

import pytest

from common.errors import JournalError, RunError
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants, RunModel
from server.rounds.quorum import wait_for_quorum
from server.storage.journal_reader import verify_journal
from tests.helpers.server.exchange import MemoryExchange, NumpyNode, Recorded, described
from tests.helpers.server.runs import FOUR, Each, clients, fresh, hashes, plan, run


class Watcher(RunObserver):
    """Keeps what it is told of waiting and of abandoned rounds."""

    def __init__(self):
        self.waits, self.abandoned = [], []

    def on_waiting(self, states, needed):
        self.waits.append((sum(state == "ready" for state in states.values()), needed))

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
    return replace(plan(rounds, **server), quorum=quorum, attempts=attempts, patience=inf, settle=0.0)


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


def waiting(messenger, quorum, watcher, settle=0.0, **settings):
    participants = Participants(messenger, RunModel(described(), 8), "query-value")
    wait_for_quorum(participants, replace(deployed(quorum=quorum), **settings), watcher, settle)
    return participants


def test_it_waits_until_enough_nodes_are_ready(pauses):
    messenger, watcher = Arriving(FOUR), Watcher()
    participants = waiting(messenger, 3, watcher)
    assert watcher.waits == [(0, 3), (1, 3), (2, 3), (3, 3)]  # once for each number, not for each look
    assert len(participants.nodes) >= 3
    assert pauses


def test_it_does_not_wait_where_enough_are_there(pauses):
    watcher = Watcher()
    waiting(fresh(), 4, watcher)
    assert (watcher.waits, pauses) == ([], [])


class Loading(MemoryExchange):
    """The last node answers at the fifth look."""

    looks = 0

    def announcements(self, question, known):
        self.looks += 1
        last = max(self.connected)
        return [each for each in super().announcements(question, known) if each[0] != last or self.looks > 4]


def test_a_node_that_loads_does_not_count_and_is_waited_for_before_the_first_round(pauses):
    watcher = Watcher()
    assert len(waiting(Loading(FOUR), 4, watcher).nodes) == 4
    assert watcher.waits == [(3, 4)]
    assert len(waiting(Loading(FOUR), 3, Watcher(), settle=60.0).nodes) == 4
    assert len(waiting(Loading(FOUR), 3, Watcher()).nodes) == 3  # control: later, nobody waits for newcomers


def test_after_its_patience_it_names_every_node_and_its_state(pauses, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    odd = [*FOUR[:1], NumpyNode("odd", 2, base="!")]
    with pytest.raises(
        RunError, match=r"1 of 2 nodes are ready after patience = 9 s \(ada: ready, odd: refused: base\)"
    ):
        waiting(MemoryExchange(odd), 2, Watcher(), patience=9.0)


def test_a_node_that_could_not_announce_itself_is_asked_again_while_it_waits(pauses, monkeypatch):
    now = iter(range(0, 10**6, 7))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    messenger, failed = MemoryExchange(FOUR), []

    def tamper(name, kind, number, reply):
        if name != "eve" or len(failed) > 2:
            return reply
        failed.append(name)
        return "failed"

    messenger.tamper = tamper
    assert "eve" in waiting(messenger, 4, Watcher()).nodes
    assert len(failed) == 3


def test_where_all_have_another_base_it_says_so(pauses):
    with pytest.raises(JournalError, match="fingerprint base, but those of odd have others"):
        waiting(MemoryExchange([NumpyNode("odd", 2, base="!")]), 1, Watcher(), patience=0.0)


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

        def request(self, kind, payloads, number, grace=None):
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
        rf"\(ada: failed, bob: failed\); round {number - 1} is intact: fix the cause"
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
    with pytest.raises(RunError, match=r"4 of 5 nodes are ready \(.*ada: ready.*\); start the others"):
        run(tmp_path, messenger, replace(deployed(quorum=5), patience=0.0))
    assert "train" not in {kind for kind, *_ in messenger.asked}


def test_one_that_comes_while_it_waits_makes_the_quorum(tmp_path, monkeypatch):
    messenger = fresh()
    monkeypatch.setattr(time, "sleep", lambda seconds: messenger.connected.update({999: NumpyNode("zoe", 2)}))
    entries = run(tmp_path, messenger, deployed(quorum=5))
    assert clients(entries[1])["zoe"]["status"] == "ok"


def vanishing(messenger, at=1):
    """Take all nodes away once a round is committed."""
    return Each(committed=lambda number: number == at and messenger.connected.clear())


def test_nodes_that_vanish_are_waited_for_as_long_as_it_takes(tmp_path, monkeypatch):
    messenger, looks = fresh(), []
    all_four = dict(messenger.connected)

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 50:  # Many more than there are attempts.
            messenger.connected.update(all_four)

    monkeypatch.setattr(time, "sleep", sleep)
    entries = run(tmp_path / "run", messenger, deployed(), vanishing(messenger))
    assert hashes(entries) == hashes(run(tmp_path / "o", fresh(), plan(2)))
    assert len(looks) == 50


def test_an_attempt_in_which_nodes_vanished_is_none(tmp_path, monkeypatch):
    """They vanish in the middle of four attempts, and come back each time; three refusals in place would end it."""
    messenger, gone = fresh(), []
    all_four = dict(messenger.connected)

    def tamper(name, kind, number, reply):
        if kind != "train" or number != 1 or len(gone) == 16:
            return reply
        gone.append(name)
        messenger.connected.pop(next(node for node, each in all_four.items() if each.name == name), None)
        return "absent"

    messenger.tamper = tamper
    monkeypatch.setattr(time, "sleep", lambda seconds: messenger.connected.update(all_four))
    assert hashes(run(tmp_path / "run", messenger, deployed())) == hashes(run(tmp_path / "o", fresh(), plan(2)))
    assert len(gone) == 16


def test_nodes_that_stay_away_end_the_run_after_its_patience(tmp_path, pauses):
    messenger = fresh()
    with pytest.raises(RunError, match=r"0 of 3 nodes are ready .*none is connected"):
        run(tmp_path, messenger, replace(deployed(), patience=0.0), vanishing(messenger))
