"""A node needs no PyTorch, which takes seconds to import, until it is asked something."""

import subprocess
import sys

from tests.command import ROOT

START = """
import sys
import client.link
from client.launch import LaterApp
assert not {"torch", "transformers"} & sys.modules.keys()
"""
ASK = """
from flwr.app import ConfigRecord, Context, Message, RecordDict
from common.flower import identify, with_id
identify()
message = with_id(Message(RecordDict({"values": ConfigRecord({"targets": "query-value"})}), 7, "query"), "a")
reply = LaterApp()(message, Context(1, 7, {"node": "nowhere.toml"}, RecordDict(), {}))
assert reply.error.reason == "failed", reply
assert {"torch", "transformers"} <= sys.modules.keys()
"""


def python(code):
    """The code in a process of its own, where nothing is imported yet."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_is_not_imported_to_connect():
    ended = python(START)
    assert ended.returncode == 0, ended.stderr


def test_the_first_message_imports_it():
    ended = python(START + ASK)
    assert ended.returncode == 0, ended.stderr
    assert "nowhere.toml" in ended.stderr
