"""A server's rounds follow one another, or the node does nothing for them."""

from dataclasses import replace

import pytest

from client.network.round_order import RoundOrder
from client.network.told_rounds import ToldRounds
from common.protocol.round_notice import RoundNotice

RUN = "ab" * 32


class Heard:
    """A node that hears notices, and whose server signs a return as `back N ADAPTER`."""

    def __init__(self, path, caplog):
        self.path, self.caplog = path, caplog
        self.restart()

    def restart(self):
        self.order = RoundOrder(ToldRounds(self.path), lambda run, n, adapter, signed: signed == f"back {n} {adapter}")

    def tell(self, *numbers, **changes):
        """Tell of these rounds, as an honest server does; return the fault of the last."""
        for number in numbers:
            line = RoundNotice(run=RUN, round=number, parent=before(number), adapter=f"a{number}", updates=[])
            fault = self.order.follow(replace(line, **changes))
        return fault

    def train(self, number, parent=None, run=RUN, kind="train"):
        """Return the fault of a request."""
        values = {"run": run, "round": number, "parent": before(number) if parent is None else parent}
        return self.order.request_fault(kind, values)

    @property
    def said(self):
        return [record.getMessage() for record in self.caplog.records]


def before(number):
    return f"a{number - 1}" if number else ""


@pytest.fixture
def heard(tmp_path, caplog):
    caplog.set_level("INFO")
    return Heard(tmp_path / "b.rounds", caplog)


def test_an_honest_server_is_obeyed_in_silence(heard):
    assert heard.train(0, "a0", kind="evaluate") is None
    for number in range(4):
        assert heard.tell(number) is None
        for _ in range(3):  # attempts and phases
            assert heard.train(number + 1) is None
        assert heard.train(number + 1, f"a{number + 1}", kind="evaluate") is None
    assert heard.said == []


def test_a_greeting_repeats_the_last_round(heard):
    heard.tell(0, 1, 2)
    size = heard.path.stat().st_size
    for _ in range(3):
        heard.order.on_connect()
        assert heard.tell(2) is None
        assert heard.train(3) is None
    heard.restart()
    assert heard.tell(2) is None
    assert (heard.train(3), heard.said, heard.path.stat().st_size) == (None, [], size)


@pytest.mark.parametrize(
    ("number", "parent", "text"),
    [
        (8, "a7", "round 8 is requested, but after round 2 comes round 3"),
        (8, "a2", "round 8 is requested, but after round 2 comes round 3"),
        (1, "a0", "round 1 is requested, but after round 2 comes round 3"),
        (2, "a1", "round 2 is requested, but after round 2 comes round 3"),
        (0, "", "round 0 is requested"),
        (-1, "", "round -1 is requested"),
        (3, "a1", "round 3 starts from adapter a1, but by the log round 2 ended with a2"),
        (3, "", "round 3 starts from adapter , but by the log"),
        (3, 3, "round 3 starts from adapter 3, but by the log"),
        (3, "\x1b[2J", r"starts from adapter \x1b[2J, but"),
        (3.0, "a2", "names no run and round"),
        (True, "a2", "names no run and round"),
        ("3", "a2", "names no run and round"),
    ],
)
def test_a_request_that_does_not_follow_is_refused(heard, number, parent, text):
    heard.tell(0, 1, 2)
    assert text in heard.train(number, parent)
    assert heard.train(3) is None  # control


def test_nothing_is_trained_for_a_run_of_which_nothing_was_told(heard):
    assert "the server has told of no round of this run" in heard.train(1)
    heard.tell(0)
    assert heard.train(1) is None
    assert "in a connection to run" in heard.train(1, "a0", run="cd" * 32)
    assert "names no run" in heard.train(1, "a0", run=3)


@pytest.mark.parametrize("number", [0, 1, 4, 8])
def test_what_is_measured_is_the_state_after_the_last_round(heard, number):
    heard.tell(0, 1, 2)
    assert "is to be measured, but the last round told is 2" in heard.train(number, f"a{number}", kind="evaluate")
    assert heard.train(2, "a2", kind="evaluate") is None
    assert heard.train(2, "b2", kind="evaluate") is not None
    assert heard.train(3, "b3", kind="evaluate") is None  # not committed: nobody has told of it
    assert "the last round told is none" in Heard(heard.path.with_name("new"), heard.caplog).train(
        1, "a1", kind="evaluate"
    )


@pytest.mark.parametrize(
    ("number", "changes", "text"),
    [
        (8, {}, "tells of round 8 right after round 2"),
        (4, {}, "tells of round 4 right after round 2"),
        (1, {}, "tells of round 1 after round 2"),
        (0, {}, "tells of round 0 after round 2"),
        (2, {"adapter": "b2"}, "round 2 led from adapter a1 to b2, but by what was told before from a1 to a2"),
        (2, {"parent": "b1"}, "round 2 led from adapter b1 to a2"),
        (3, {"parent": "a1"}, "round 3 starts from adapter a1, but by the log round 2 ended with a2"),
        (0, {"run": "cd" * 32}, "in a connection to run"),
        (3, {"adapter": "\x1b[2J"}, "a hash in the server's notice is none"),
    ],
)
def test_a_notice_that_does_not_follow_is_not_followed(heard, number, changes, text):
    heard.tell(0, 1, 2)
    for _ in range(2):  # each time
        assert text in heard.tell(number, **changes)
        assert heard.train(number + 1, changes.get("adapter", f"a{number}")) is not None or number == 2
    assert heard.train(3) is None  # what was told before holds
    heard.restart()
    assert heard.train(3) is None


def test_a_jump_behind_a_new_connection_is_said(heard):
    heard.tell(0, 1, 2)
    heard.order.on_connect()
    assert heard.tell(8) is None
    assert "told of round 2 last, and now of round 8: it was away, or the server jumps" in heard.said[0]
    assert heard.train(9) is None
    assert heard.train(3) is not None
    assert "tells of round 12 right after round 8" in heard.tell(12)


def test_one_round_later_is_no_jump_but_its_parent_is_checked(heard):
    heard.tell(0, 1, 2)
    heard.order.on_connect()
    assert heard.tell(3, parent="b2") is not None
    heard.order.on_connect()
    assert heard.tell(3) is None
    assert heard.said == []


def test_a_refused_notice_does_not_leave_the_next_free_to_jump(heard):
    heard.tell(0, 1, 2)
    heard.order.on_connect()
    assert heard.tell(1) is not None
    assert heard.tell(8) is not None


@pytest.mark.parametrize("way", ["reconnect", "restart", "another run between"])
def test_going_back_is_refused_whatever_comes_between(heard, way):
    heard.tell(*range(9))
    if way == "restart":
        heard.restart()
    heard.order.on_connect()
    if way == "another run between":
        assert heard.tell(0, run="cd" * 32) is None
        assert f"another run: {'cd' * 6}, of which round 0 is told first" in heard.said
        assert heard.train(1, "a0", run="cd" * 32) is None
        heard.order.on_connect()
    assert "tells of round 1 after round 8" in heard.tell(1)
    assert heard.train(2) is not None


def test_a_signed_return_is_followed_and_later_rounds_are_forgotten(heard):
    heard.tell(*range(9))
    heard.order.on_connect()
    assert heard.tell(3, returned="back 3 a3") is None
    assert heard.said == ["the run goes back from round 8 to round 3, as its server signed"]
    heard.restart()
    assert heard.train(9) is not None
    assert heard.train(4) is None
    assert heard.tell(4, adapter="b4") is None
    assert heard.tell(5, parent="b4", adapter="b5") is None


def test_a_node_that_was_away_for_the_return_follows_too(heard):
    """The server went back to round 3, and has committed two rounds since."""
    heard.tell(*range(9))
    heard.order.on_connect()
    assert heard.tell(5, parent="b4", adapter="b5", returned="back 3 a3") is None
    assert "told of round 3 last, and now of round 5" in heard.said[1]
    assert heard.train(6, "b5") is None
    heard.restart()
    assert heard.train(6, "b5") is None
    assert "tells of round 4 after round 5" in heard.tell(4)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"returned": ""}, "tells of round 3 after round 8"),
        ({"returned": "forged"}, "No return to a round that this node was told of is signed by the server's key"),
        ({"returned": "back 3 b3", "adapter": "b3"}, "to an adapter that this node was not told of"),
        ({"returned": "back 3 a3", "adapter": "b3"}, "round 3 led from adapter a2 to b3"),
        ({"returned": "back 3 a3", "parent": "b2"}, "round 3 led from adapter b2 to a3"),
        ({"returned": "back 7 a7"}, "No return"),
    ],
)
def test_another_return_is_not_followed(heard, changes, text):
    heard.tell(*range(9))
    heard.order.on_connect()
    assert text in heard.tell(3, **changes)
    assert heard.train(9) is None
    assert heard.train(4) is not None


def test_a_return_in_another_run_concerns_this_one_in_nothing(heard):
    heard.tell(*range(9))
    heard.order.on_connect()
    assert heard.tell(3, run="cd" * 32, returned="back 3 a3") is None
    heard.order.on_connect()
    assert heard.train(9) is None
    assert heard.train(4) is not None


def test_a_return_to_a_round_that_the_node_slept_through_is_not_followed(heard):
    heard.tell(0, 1)
    heard.order.on_connect()
    heard.tell(8)
    heard.order.on_connect()
    assert "to an adapter that this node was not told of" in heard.tell(5, returned="back 5 a5")
    assert heard.tell(1, returned="back 1 a1") is None


def test_the_remedy_is_said(heard):
    heard.tell(0)
    for fault in (heard.train(5), heard.tell(5)):
        assert "ask the server's operator. A run goes back by `fedlora server --from-round`" in fault
        assert f"without {heard.path} this node follows whatever it is told next" in fault
