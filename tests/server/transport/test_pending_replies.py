import threading

import pytest

from server.transport import pending_replies
from server.transport.pending_replies import PendingReplies


@pytest.fixture
def pending():
    pending = PendingReplies()
    pending.expect("a", 2, "to a", 60)
    pending.expect("b", 3, "to b", 60)
    return pending


def test_only_the_node_that_was_asked_replies_and_once(pending):
    assert pending.claim("a", 3) is None
    assert pending.claim("unknown", 2) is None
    asked = pending.claim("a", 2)
    assert asked.message == "to a"
    assert pending.claim("a", 2) is None
    pending.resolve(asked, lambda: "first")
    pending.resolve(asked, lambda: "second")
    assert pending.claim("a", 2) is None
    assert pending.pop("a")() == "first"
    assert pending.pop("a") is None
    assert pending.claim("a", 2) is None


def test_a_reply_that_broke_off_may_come_again(pending):
    pending.release(pending.claim("a", 2))
    assert pending.claim("a", 2)


def test_nothing_is_taken_before_it_is_there(pending):
    assert pending.pop("a") is None
    assert pending.claim("a", 2)
    assert pending.pop("a") is None


def test_a_node_that_is_gone_leaves_its_own_messages_only(pending):
    pending.expect("c", 2, "answered", 60)
    pending.resolve(pending.claim("c", 2), lambda: "reply")
    late = pending.claim("a", 2)
    pending.fail_node(2, lambda message: f"lost {message}")
    pending.resolve(late, lambda: "late")
    assert pending.pop("a")() == "lost to a"
    assert pending.pop("c")() == "reply"
    assert pending.pop("b") is None


def test_what_nobody_waits_for_is_forgotten(pending, monkeypatch):
    monkeypatch.setattr(pending_replies.time, "monotonic", lambda: 1e9)
    pending.expect("later", 2, "later", 60)
    assert pending.claim("a", 2) is None
    assert pending.claim("later", 2)


def test_waiting_ends_with_the_last_reply(pending):
    def answer():
        pending.resolve(pending.claim("a", 2), lambda: "x")
        pending.fail_node(3, str)

    threading.Timer(0.05, answer).start()
    pending.wait(["a", "b", "unknown"], 30)
    assert pending.pop("a")
    assert pending.pop("b")


def test_waiting_ends_at_the_timeout(pending):
    pending.wait(["a"], 0.01)
    assert pending.pop("a") is None


def test_only_the_node_that_was_asked_shows_that_it_works(pending, monkeypatch):
    monkeypatch.setattr(pending_replies.time, "monotonic", lambda: 77.0)
    pending.note_report("a", 3, 1)
    pending.note_report("unknown", 2, 1)
    assert pending.last_report("a") is pending.last_report("b") is pending.last_report("unknown") is None
    pending.note_report("a", 2, 1)
    assert pending.last_report("a") == 77.0


def test_only_a_further_step_shows_it(pending, monkeypatch):
    now = [1.0]
    monkeypatch.setattr(pending_replies.time, "monotonic", lambda: now[0])
    for at, step in ((1.0, 1), (2.0, 2), (3.0, 2), (4.0, 1)):
        now[0] = at
        pending.note_report("a", 2, step)
    assert pending.last_report("a") == 2.0


def test_a_reply_that_begins_shows_it_too(pending, monkeypatch):
    monkeypatch.setattr(pending_replies.time, "monotonic", lambda: 5.0)
    pending.claim("b", 3)
    assert pending.last_report("b") == 5.0


def test_the_reply_to_a_withdrawn_message_is_refused(pending):
    pending.withdraw("a")
    pending.withdraw("a")
    assert pending.claim("a", 2) is None
    assert pending.claim("b", 3)
