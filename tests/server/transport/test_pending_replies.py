import threading

import pytest

from server.transport import pending_replies as module
from server.transport.pending_replies import Inbox


@pytest.fixture
def inbox():
    inbox = Inbox()
    inbox.ask("a", 2, "to a", 60)
    inbox.ask("b", 3, "to b", 60)
    return inbox


def test_only_the_node_that_was_asked_replies_and_once(inbox):
    assert inbox.claim("a", 3) is None
    assert inbox.claim("unknown", 2) is None
    asked = inbox.claim("a", 2)
    assert asked.message == "to a"
    assert inbox.claim("a", 2) is None
    inbox.answer(asked, lambda: "first")
    inbox.answer(asked, lambda: "second")
    assert inbox.claim("a", 2) is None
    assert inbox.take("a")() == "first"
    assert inbox.take("a") is None
    assert inbox.claim("a", 2) is None


def test_a_reply_that_broke_off_may_come_again(inbox):
    inbox.release(inbox.claim("a", 2))
    assert inbox.claim("a", 2)


def test_nothing_is_taken_before_it_is_there(inbox):
    assert inbox.take("a") is None
    assert inbox.claim("a", 2)
    assert inbox.take("a") is None


def test_a_node_that_is_gone_leaves_its_own_messages_only(inbox):
    inbox.ask("c", 2, "answered", 60)
    inbox.answer(inbox.claim("c", 2), lambda: "reply")
    late = inbox.claim("a", 2)
    inbox.lose(2, lambda message: f"lost {message}")
    inbox.answer(late, lambda: "late")
    assert inbox.take("a")() == "lost to a"
    assert inbox.take("c")() == "reply"
    assert inbox.take("b") is None


def test_what_nobody_waits_for_is_forgotten(inbox, monkeypatch):
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e9)
    inbox.ask("later", 2, "later", 60)
    assert inbox.claim("a", 2) is None
    assert inbox.claim("later", 2)


def test_waiting_ends_with_the_last_reply(inbox):
    def answer():
        inbox.answer(inbox.claim("a", 2), lambda: "x")
        inbox.lose(3, str)

    threading.Timer(0.05, answer).start()
    inbox.wait(["a", "b", "unknown"], 30)
    assert inbox.take("a")
    assert inbox.take("b")


def test_waiting_ends_at_the_timeout(inbox):
    inbox.wait(["a"], 0.01)
    assert inbox.take("a") is None
