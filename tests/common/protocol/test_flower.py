"""The two private names of Flower that we use, and the grid that ours must be, are as they were when we wrote this."""

import inspect
import subprocess
import sys
from pathlib import Path

import flwr
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from common.protocol.flower import give_id, identify

ROOT = Path(__file__).parents[3]
CONTENT = {"values": ConfigRecord({"round": 3}), "adapter": ArrayRecord({"adapter": Array("uint8", (1,), "x", b"f")})}
OURS = [
    *("run_id", "message_id", "src_node_id", "dst_node_id", "reply_to_message_id"),
    *("group_id", "created_at", "ttl", "message_type"),
]
"""Attributes that `with_id` copies."""


@pytest.fixture
def message():
    identify(run_id=8, node_id=5)
    yield Message(RecordDict(CONTENT), 7, "train", ttl=60.0, group_id="3")
    identify()


def test_flower_is_the_release_we_know():
    assert flwr.__version__.startswith("1.41.")


def test_an_identity_is_what_flower_asks_for(message):
    assert (TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id) == (8, 5, 1)
    assert (message.metadata.run_id, message.metadata.src_node_id) == (8, 5)


def test_without_an_identity_there_is_no_message():
    code = "from flwr.app import Message, RecordDict\nMessage(RecordDict(), 7, 'train')"
    one, two = (
        subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, check=False)
        for lines in (code, f"from common.protocol.flower import identify\nidentify()\n{code}")
    )
    assert one.returncode == 1
    assert "TaskIdentity" in one.stderr
    assert two.returncode == 0, two.stderr


def test_a_message_keeps_all_but_its_id(message):
    delivered = give_id(message, "its own")
    expected = {name: getattr(message.metadata, name) for name in OURS} | {"message_id": "its own"}
    assert {name: getattr(delivered.metadata, name) for name in OURS} == expected
    assert dict(delivered.content) == CONTENT


def test_metadata_are_made_of_what_we_pass():
    parameters = inspect.signature(Metadata).parameters
    assert [name for name, p in parameters.items() if p.default is inspect.Parameter.empty] == OURS


def test_a_delivered_message_has_records_of_its_own(message):
    """A client that adds one does not add it to the sender's."""
    delivered = give_id(message, "its own")
    delivered.content["more"] = ConfigRecord({"x": 1})
    assert "more" not in message.content


def test_replies_answer_the_message_by_its_id(message):
    delivered = give_id(message, "its own")
    for reply in (Message(RecordDict(), reply_to=delivered), Message(Error(2, "failed"), reply_to=delivered)):
        assert reply.metadata.reply_to_message_id == "its own"
        assert (reply.metadata.group_id, reply.metadata.message_type) == ("3", "train")
    assert reply.has_error()


def test_a_grid_is_what_ours_are():
    abstract = {
        "create_message",
        "get_node_ids",
        "pull_messages",
        "push_messages",
        "run",
        "send_and_receive",
        "set_run",
    }
    assert Grid.__abstractmethods__ == abstract
    assert list(inspect.signature(Grid.push_messages).parameters) == ["self", "messages"]
    assert list(inspect.signature(Grid.pull_messages).parameters) == ["self", "message_ids"]
