import threading

import pytest

from server.transport import pending_replies as module
from server.transport.pending_replies import PendingReplies


@pytest.fixture
def inbox():
    inbox = PendingReplies()
    inbox.expect("a", 2, "to a", 60)
    inbox.expect("b", 3, "to b", 60)
    return inbox


def test_only_the_node_that_was_asked_replies_and_once(inbox):
    assert inbox.claim("a", 3) is None
    assert inbox.claim("unknown", 2) is None
    asked = inbox.claim("a", 2)
    assert asked.message == "to a"
    assert inbox.claim("a", 2) is None
    inbox.resolve(asked, lambda: "first")
    inbox.resolve(asked, lambda: "second")
    assert inbox.claim("a", 2) is None
    assert inbox.pop("a")() == "first"
    assert inbox.pop("a") is None
    assert inbox.claim("a", 2) is None


def test_a_reply_that_broke_off_may_come_again(inbox):
    inbox.release(inbox.claim("a", 2))
    assert inbox.claim("a", 2)


def test_nothing_is_taken_before_it_is_there(inbox):
    assert inbox.pop("a") is None
    assert inbox.claim("a", 2)
    assert inbox.pop("a") is None


def test_a_node_that_is_gone_leaves_its_own_messages_only(inbox):
    inbox.expect("c", 2, "answered", 60)
    inbox.resolve(inbox.claim("c", 2), lambda: "reply")
    late = inbox.claim("a", 2)
    inbox.fail_node(2, lambda message: f"lost {message}")
    inbox.resolve(late, lambda: "late")
    assert inbox.pop("a")() == "lost to a"
    assert inbox.pop("c")() == "reply"
    assert inbox.pop("b") is None


def test_what_nobody_waits_for_is_forgotten(inbox, monkeypatch):
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e9)
    inbox.expect("later", 2, "later", 60)
    assert inbox.claim("a", 2) is None
    assert inbox.claim("later", 2)


def test_waiting_ends_with_the_last_reply(inbox):
    def answer():
        inbox.resolve(inbox.claim("a", 2), lambda: "x")
        inbox.fail_node(3, str)

    threading.Timer(0.05, answer).start()
    inbox.wait(["a", "b", "unknown"], 30)
    assert inbox.pop("a")
    assert inbox.pop("b")


def test_waiting_ends_at_the_timeout(inbox):
    inbox.wait(["a"], 0.01)
    assert inbox.pop("a") is None
