import logging
import shutil

import pytest
from flwr.app import Error, Message

from common.protocol.messages import ENDED
from common.protocol.payload import Payload
from server.farewell.earlier_endings import TRIES, EarlierEndings
from server.farewell.past_runs import load_last_update
from server.transport.flower_messenger import FlowerMessenger
from tests.helpers.server.grid import MemoryGrid, reply

ADA = 4


def saving(message):
    return [reply(message, Payload({}))]


def declining(word):
    return lambda message: [Message(Error(2, word), reply_to=message)]


@pytest.fixture
def endings(runs, caplog):
    """Return a function that makes the grid, and what answers for the runs beside `second`."""
    caplog.set_level(logging.INFO)

    def make(answer=saving, members=("ada", "bob"), deadline=60.0):
        grid = MemoryGrid({ADA: answer})
        messenger = FlowerMessenger(grid, deadline)
        own = runs.identity("second")
        return grid, EarlierEndings(runs.folder / "second", own, runs.credentials, messenger, lambda: members)

    return make


def words(caplog):
    return [getattr(record, "event", "") for record in caplog.records]


def test_a_node_is_sent_what_each_run_ended_with_one_after_another(runs, endings, caplog):
    folders = [runs.make(name) for name in ("first", "third")]
    grid, earlier = endings()
    earlier.on_node_ready(ADA, "ada", [runs.identity("third"), runs.identity("first")])
    assert len(grid.pushed) == 1  # the second follows the answer to the first
    while earlier.is_busy:
        earlier.on_look()
    sent = [Payload.from_message(message) for message in grid.pushed]
    assert [each.blob for each in sent] == [load_last_update(f, runs.credentials).buffer for f in reversed(folders)]
    assert [each.values["run"] for each in sent] == [runs.identity("third"), runs.identity("first")]
    assert all(each.values[ENDED] and not each.parts for each in sent)
    assert {message.metadata.message_type for message in grid.pushed} == {"evaluate"}
    assert [record.fields["run"] for record in caplog.records if record.event == "earlier-saved"] == ["third", "first"]


@pytest.mark.parametrize("which", ["unknown", "own", "not a member"])
def test_nothing_is_sent_of(runs, endings, caplog, which):
    runs.make("first")
    runs.make("second")
    members = ("bob",) if which == "not a member" else ("ada",)
    grid, earlier = endings(members=members)
    name = {"own": "second", "not a member": "first"}.get(which, "unknown")
    earlier.on_node_ready(ADA, "ada", [runs.identity(name)])
    assert (grid.pushed, earlier.is_busy, words(caplog)) == ([], False, [])


def test_a_run_that_cannot_be_answered_for_is_one_line_and_the_next_is_sent(runs, endings, caplog):
    (runs.make("first") / "journal" / "round-000002.state").unlink()
    runs.make("third")
    grid, earlier = endings()
    for number in (ADA, ADA):
        earlier.on_node_ready(number, "ada", [runs.identity("first"), runs.identity("third")])
    assert [Payload.from_message(message).values["run"] for message in grid.pushed] == [runs.identity("third")] * 2
    assert words(caplog).count("earlier-missed") == 1


def test_a_run_in_two_folders_that_differ_is_a_line_and_a_copy_is_none(runs, endings, caplog):
    first = runs.make("first")
    shutil.copytree(first, runs.folder / "copy")
    grid, earlier = endings()
    earlier.on_node_ready(ADA, "ada", [runs.identity("first")])
    assert len(grid.pushed) == 1
    log = first / "journal" / "log.jsonl"
    log.write_bytes(log.read_bytes() + b"x")
    grid, earlier = endings()
    earlier.on_node_ready(ADA, "ada", [runs.identity("first")])
    assert grid.pushed == []
    assert "are of one run and differ" in caplog.text


def test_a_second_reply_and_a_strangers_are_ignored(runs, endings, caplog):
    runs.make("first")
    runs.make("third")
    grid, earlier = endings(lambda message: [*saving(message), *declining("failed")(message)])
    earlier.on_node_ready(ADA, "ada", [runs.identity("first"), runs.identity("third")])
    while earlier.is_busy:
        earlier.on_look()
        grid.strays = saving(grid.pushed[0])
    assert words(caplog) == ["earlier-saved"] * 2


def test_a_node_that_declines_is_a_line(runs, endings, caplog):
    runs.make("first")
    _, earlier = endings(declining("policy"))
    earlier.on_node_ready(ADA, "ada", [runs.identity("first")])
    earlier.on_look()
    assert not earlier.is_busy
    (record,) = [record for record in caplog.records if record.event == "earlier-missed"]
    assert record.fields == {"run": "first", "node": "ada", "reason": "policy"}


def test_a_node_that_leaves_or_never_answers_is_waited_for_no_more(runs, endings, caplog):
    runs.make("first")
    for answer in (declining("absent"), lambda message: []):
        _, earlier = endings(answer, deadline=0.0)
        earlier.on_node_ready(ADA, "ada", [runs.identity("first")])
        earlier.on_look()
        assert not earlier.is_busy
    assert words(caplog) == []


def test_a_node_that_connects_without_end_is_sent_a_run_a_few_times(runs, endings):
    runs.make("first")
    grid, earlier = endings(declining("failed"))
    for _ in range(3 * TRIES):
        earlier.on_node_ready(ADA, "ada", [runs.identity("first")])
        earlier.on_look()
    assert len(grid.pushed) == TRIES


def test_whatever_goes_wrong_does_not_reach_the_run(runs, endings, caplog):
    runs.make("first")
    grid, earlier = endings()
    grid.pull_messages = None  # an error that nobody has thought of
    earlier.on_node_ready(ADA, "ada", [runs.identity("first")])
    earlier.on_look()
    assert not earlier.is_busy
    assert words(caplog)[-1] == "earlier-missed"
