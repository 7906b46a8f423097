"""The first refusal of a kind is said at once, and the others as one sum a minute."""

import logging
from threading import Thread

import pytest

from server.transport.door.refusals import MINUTE, RefusalLog

REST = "node a was refused 2,999 more times in the last minute: rate"


class Time:
    """A clock that is set."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def refusals(clock, caplog):
    caplog.set_level(logging.INFO)
    return RefusalLog(clock)


def flood(refusals, count=3000, node="a", reason="rate"):
    for _ in range(count):
        refusals.refuse(node, reason)


def test_a_flood_has_two_lines_in_its_minute(refusals, clock, caplog):
    flood(refusals)
    refusals.sum_up()
    assert caplog.messages == ["node a is rejected: rate"]
    clock.now = MINUTE
    refusals.sum_up()
    refusals.sum_up()
    assert caplog.messages == ["node a is rejected: rate", REST]


def test_a_flood_that_goes_on_has_one_line_a_minute(refusals, clock, caplog):
    for minute in range(1, 6):
        flood(refusals)
        clock.now = minute * MINUTE
        refusals.sum_up()
    assert len(caplog.messages) == 1 + 5


def test_after_a_quiet_minute_the_next_is_said_at_once_again(refusals, clock, caplog):
    for minute in (1, 2):
        flood(refusals, 1)
        clock.now = minute * MINUTE
        refusals.sum_up()
    assert caplog.messages == ["node a is rejected: rate"] * 2
    assert refusals._kinds == {}


def test_nodes_and_reasons_are_summed_apart(refusals, caplog):
    for node in "ab":
        for reason in ("rate", "stale"):
            flood(refusals, 3, node, reason)
    refusals.sum_up(all_kinds=True)
    assert len(set(caplog.messages)) == len(caplog.messages) == 8


def test_what_is_left_at_the_end_is_said(refusals, caplog):
    flood(refusals)
    refusals.sum_up(all_kinds=True)
    assert caplog.messages[-1] == REST


def test_a_line_has_its_event_in_plain_values(refusals, caplog):
    flood(refusals, 5)
    refusals.sum_up(all_kinds=True)
    assert [record.event for record in caplog.records] == ["refused"] * 2
    fields = [record.fields for record in caplog.records]
    assert fields == [{"node": "a", "reason": "rate", "count": count} for count in (1, 4)]


def test_a_text_of_a_peer_is_one_short_line(refusals, caplog):
    refusals.refuse("a", "reply", "a reply of node a: \x1b[2J\n2026 fake\u202e" + "x" * 10**6)
    (line,) = caplog.messages
    assert line.startswith("a reply of node a: \\x1b[2J\\n2026 fake\\u202e")
    assert len(line) < 400


def test_sums_from_many_threads_lose_nothing(refusals, caplog):
    threads = [Thread(target=flood, args=(refusals, 1000)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    refusals.sum_up(all_kinds=True)
    assert sum(record.fields["count"] for record in caplog.records) == 8000
