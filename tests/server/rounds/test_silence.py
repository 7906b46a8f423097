"""Grace for nodes that report nothing, and the rounds in which a silent node is not asked."""

from itertools import pairwise
from math import inf
from types import SimpleNamespace

import pytest

from server.links import grace as grace_module
from server.links.grace import LEAST_GRACE, Grace
from server.rounds.observer import RunObserver
from server.rounds.quorum import LONGEST_REST, Silence


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(grace_module.time, "monotonic", lambda: now[0])
    return now


class Told(RunObserver):
    def __init__(self):
        self.silent = []

    def on_silent(self, name, number, again):
        self.silent.append((name, number, again))


def silence(names="abcd", quorum=2, grace=None):
    participants = SimpleNamespace(nodes=dict.fromkeys(names), ids={name: ord(name) for name in names}, resting={})
    settings = SimpleNamespace(quorum=quorum, grace=grace)
    return Silence(participants, settings, Told()), participants


def answered(*silent, seconds=1.0):
    """Return what is known after a question, to which these did not answer."""
    grace = Grace(1, None)
    grace.silent, grace.slowest = {ord(name) for name in silent}, seconds
    return grace


def asked(names):
    return {ord(name): name for name in names}


def test_before_enough_have_answered_nobody_is_given_up(clock):
    grace = Grace(2, 5.0)
    grace.count()
    clock[0] += 10**6
    assert not grace.is_over(1, None)


def test_the_grace_begins_with_the_last_answer_that_was_needed(clock):
    grace = Grace(1, 5.0)
    clock[0] += 100
    grace.count()
    clock[0] += 4.9
    assert not grace.is_over(1, None)
    grace.count()  # one more than enough
    clock[0] += 0.1
    assert grace.is_over(1, None)
    assert grace.silent == {1}


def test_it_begins_anew_with_each_report(clock):
    grace = Grace(1, 5.0)
    grace.count()
    clock[0] += 100
    assert not grace.is_over(1, clock[0] - 4.9)
    assert grace.is_over(1, clock[0] - 5.0)
    assert grace.is_over(2, clock[0] - 99)


def test_without_seconds_nobody_is_given_up(clock):
    grace = Grace(1, None)
    grace.count()
    clock[0] += 10**6
    assert not grace.is_over(1, None)


@pytest.mark.parametrize(("reported", "silent"), [(None, True), (LEAST_GRACE, True), (LEAST_GRACE - 1, False)])
def test_who_misses_the_deadline_is_silent_unless_it_reported_shortly_before(clock, reported, silent):
    grace = Grace(1, None)
    grace.note_missed(1, reported and clock[0] - reported)
    assert grace.silent == ({1} if silent else set())


@pytest.mark.parametrize(("answers", "expected"), [((1.0, 20.0), 60), ((1.0, 31.0, 2.0), 62)])
def test_the_grace_is_twice_the_slowest_answer_and_at_least_a_minute(clock, answers, expected):
    quiet, _ = silence()
    for number, each in enumerate(answers, 1):
        quiet.take(number, asked("abcd"), answered(seconds=each))
    clock[0] += 10**4
    grace = quiet.grace(5, 1, ())
    grace.count()
    assert not grace.is_over(1, None)
    clock[0] += expected - 0.5
    assert not grace.is_over(1, None)
    clock[0] += 1.0
    assert grace.is_over(1, None)


def test_the_operator_may_set_it(clock):
    grace = silence(grace=2.0)[0].grace(5, 1, ())
    grace.count()
    clock[0] += 2.0
    assert grace.is_over(1, None)


def test_a_server_that_has_just_started_goes_by_the_rounds_in_the_log(clock):
    """The first line is before training; one round that waited for a silent node does not count for more than one."""
    entries = [{"metrics": {"seconds": each}} for each in (900.0, 3600.0, 40.0, 50.0)]
    grace = silence()[0].grace(4, 1, entries)
    grace.count()
    clock[0] += 99
    assert not grace.is_over(1, None)
    clock[0] += 2
    assert grace.is_over(1, None)


@pytest.mark.parametrize("number", [0, 1])
def test_the_first_round_has_none(clock, number):
    grace = silence(grace=1.0)[0].grace(number, 1, ())
    grace.count()
    clock[0] += 10**6
    assert not grace.is_over(1, None)


def test_a_silent_node_is_asked_less_and_less_often():
    quiet, _ = silence()
    rounds = []
    for number in range(1, 100):
        if "d" in quiet.available(number):
            rounds.append(number)
            quiet.take(number, asked("abcd"), answered("d"))
    rests = [after - before - 1 for before, after in pairwise(rounds)]
    assert rests[:5] == [1, 2, 4, 8, 16]
    assert max(rests) == LONGEST_REST
    assert quiet._observer.silent[:2] == [("d", 1, 3), ("d", 3, 6)]


def test_one_that_answers_is_asked_in_each_round_again():
    quiet, _ = silence()
    quiet.take(1, asked("abcd"), answered("d"))
    assert quiet.available(2) == ["a", "b", "c"]
    assert quiet.available(3) == ["a", "b", "c", "d"]
    quiet.take(3, asked("abcd"), answered())
    assert quiet.available(4) == ["a", "b", "c", "d"]
    quiet.take(4, asked("abcd"), answered("d"))
    assert quiet._observer.silent[-1] == ("d", 4, 6)  # as after the first silence


def test_who_was_not_asked_has_not_answered():
    quiet, _ = silence()
    quiet.take(1, asked("abcd"), answered("d"))
    quiet.take(2, asked("abc"), answered())
    quiet.take(3, asked("abcd"), answered("d"))
    assert quiet._observer.silent[-1] == ("d", 3, 6)


def test_a_node_that_has_connected_again_is_asked_at_once():
    quiet, participants = silence()
    quiet.take(1, asked("abcd"), answered("d"))
    participants.ids["d"] = 500
    assert quiet.available(2) == ["a", "b", "c", "d"]


def test_silent_nodes_that_the_quorum_needs_are_asked_the_one_first_that_rested_longest():
    quiet, participants = silence(quorum=3)
    quiet.take(1, asked("abcd"), answered("c", "d"))
    quiet.take(2, asked("ab"), answered("b"))
    assert sorted(quiet.available(2)) == ["a", "c", "d"]
    assert participants.resting == {"b": 4}


def test_while_nobody_is_silent_everybody_is_asked_in_the_same_order():
    quiet, participants = silence("dbca")
    assert quiet.available(7) == list("dbca")
    assert participants.resting == {}
    assert not quiet.rests("a", 7)


def test_a_grace_that_nobody_needs_is_over_at_no_time():
    assert not Grace(1, inf).is_over(1, None)
