"""What arrives over the network, at the server and at a node."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest
from flwr.app import Context, Error, Message, RecordDict

import client.app
from client.network.audit import LogAuditor
from client.network.responder import Responder
from common.adapters.codec import encode_adapter
from common.errors import FedloraError, TransportError
from common.huggingface.model_description import ModelDescription
from common.huggingface.new_head import HeadModule
from common.protocol.announcement import Announcement
from common.protocol.assignment import Assignment, Term, Training
from common.protocol.channel import FRAME, NOTICE, NodeHello
from common.protocol.flower import give_id, identify
from common.protocol.frames import decode_message, encode_message
from common.protocol.message_header import read_header
from common.protocol.messages import FROZEN, RoundId, assignment_values, pack_assignment, pack_terms
from common.protocol.payload import Payload, read_reply
from common.protocol.replies import LossReply, TrainReply
from common.protocol.round_notice import RoundNotice
from common.protocol.values import InvalidValue
from tests.fuzz.mutations import VALUES, Case, change_bytes, change_tree, write_json
from tests.fuzz.target import Target, check_depth
from tests.helpers.client.nodes import write_node
from tests.helpers.common.buffers import random_adapter
from tests.helpers.end_to_end.identities import Identities

pytestmark = pytest.mark.slow
SIZE = 2**20
LIMIT = 2**40
"""Largest message that a reader is told to accept, so that an announced size alone would be found."""
HASH = "ab" * 32
SMALL = random_adapter({"q": (6, 5, 2), "v": (4, 7, 2)})
ROUND = RoundId("run", 3, sha256(encode_adapter(SMALL)).hexdigest(), HASH)


def message_of(kind: str, values: dict[str, Any], blob: bytes = b"", parts: dict[str, bytes] | None = None) -> Message:
    identify()
    return give_id(Message(Payload(values, blob, parts or {}).to_records(), 7, kind, ttl=60, group_id="3"), "an id")


def frames_of(message: Message) -> list[bytes]:
    return list(encode_message(message))


def announcement() -> Announcement:
    shapes = {"q": (6, 5), "v": (4, 7), "classifier": (3, 6)}
    model = ModelDescription(HASH, "classification", shapes, (HeadModule("classifier", True, True),), ("v",))
    return Announcement("ada", 8, 500, model)


REPLIES = [
    announcement().to_values(),
    TrainReply(**ROUND.to_values(), examples=10, tokens=70, loss=0.5).to_values(),
    LossReply(**ROUND.to_values(), loss=0.5, count=9).to_values(),
]


def changed(frames: list[bytes], case: Case) -> list[bytes]:
    """Change the header of a message, and say its length rightly; or the frames after it, or a byte of any."""
    first, *others = frames
    part = case.pick(["tree", "tree", "tree", "values", "values", "header", "first", "others"], 1)
    if part == "first":
        return [change_bytes(first, case.changes), *others]
    if part == "others":
        whole = change_tree(others, case.changes, (b"", b"\0", bytes(FRAME), bytes(FRAME + 1)))
        return [first, *([each for each in whole if isinstance(each, bytes)] if isinstance(whole, list) else [])]
    header = change_bytes(first[4:], case.changes) if part == "header" else changed_tree(first[4:], part, case)
    return [len(header).to_bytes(4, "little") + header, *others]


def changed_tree(header: bytes, part: str, case: Case) -> bytes:
    whole = json.loads(header)
    if part == "tree":
        return write_json(change_tree(whole, case.changes))
    for record in whole.get("records", ()):
        if record[0] == "values":
            record[2] = change_tree(record[2], case.changes, (*VALUES, {"bytes": "00ff"}))
    return write_json(whole)


def read_message(frames: list[bytes]) -> Message:
    return decode_message(frames[0] if frames else b"", iter(frames[1:]), LIMIT)


def of_server() -> list[list[bytes]]:
    """Return what a server sends: questions, assignments and notices."""
    start = Assignment(SMALL, SMALL, "b", 0.5, (Term("proximal", {"mu": 0.1}), Term("control-variate", {}, SMALL)))
    values = assignment_values(start, Training((0.1, 0.1), 4)) | ROUND.to_values() | {"cohort": 2, "phases": 1}
    parts = {FROZEN: encode_adapter(SMALL)} | pack_terms(start)
    line = RoundNotice(run="run", round=3, parent=ROUND.parent, adapter="03", updates=[HASH], weight=0.25)
    return [
        frames_of(message_of("query", {"targets": ["q", "v"], "base": HASH})),
        frames_of(message_of("train", values, pack_assignment(start), parts)),
        frames_of(message_of("evaluate", ROUND.to_values(), parts={FROZEN: encode_adapter(SMALL)})),
        frames_of(message_of(NOTICE, line.to_values())),
    ]


def of_nodes() -> list[list[bytes]]:
    """Return what nodes answer."""
    asked = message_of("train", {"reply_bytes": 100})
    error = frames_of(Message(Error(2, "failed"), reply_to=asked))
    return [error, *(frames_of(message_of("train", values, encode_adapter(SMALL))) for values in REPLIES)]


def test_only_a_transport_error_leaves_a_message() -> None:
    valid = [*of_server(), *of_nodes()]
    target = Target(lambda case: changed(case.pick(valid, 0), case), read_message, (TransportError,), SIZE, valid)
    check_depth(target.fuzz(), errors=8, read=0.05)


def test_only_a_transport_error_leaves_a_header() -> None:
    valid = [frames[0][4:] for frames in (*of_server(), *of_nodes())]

    def make(case: Case) -> bytes:
        header = case.pick(valid, 0)
        return change_bytes(header, case.changes) if case.pick([True, False], 1) else changed_tree(header, "tree", case)

    def read(header: bytes) -> None:
        read_header(header, LIMIT)

    check_depth(Target(make, read, (TransportError,), SIZE, valid).fuzz(), errors=4, read=0.02)


def test_only_documented_errors_leave_a_reply_at_the_server() -> None:
    valid = of_nodes()

    def read(frames: list[bytes]) -> None:
        reply = read_reply(read_message(frames))
        if isinstance(reply, Payload):
            assert len(reply.blob_hash) == 64
            kind = (
                Announcement if "modules" in reply.values else TrainReply if "examples" in reply.values else LossReply
            )
            kind.from_values(reply.values)

    errors = (TransportError, InvalidValue, KeyError, TypeError, ValueError)  # the last three are `Announcement`'s
    target = Target(lambda case: changed(case.pick(valid, 0), case), read, errors, SIZE, valid)
    check_depth(target.fuzz(), errors=12, read=0.05)


def test_nothing_leaves_a_hello() -> None:
    hello = NodeHello(8).to_json()

    def make(case: Case) -> bytes:
        part = case.pick(["bytes", "tree"], 1)
        return (
            change_bytes(hello, case.changes)
            if part == "bytes"
            else write_json(change_tree(json.loads(hello), case.changes))
        )

    told = Target(make, NodeHello.from_json, (), SIZE, [hello]).fuzz()
    check_depth(told, errors=0)


class Quiet(logging.Handler):
    """Keeps the lines of the node's log, and fails at a traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        assert not record.exc_info, self.format(record)
        self.lines.add(re.sub("[0-9]+", "#", record.getMessage())[:60])

    lines: ClassVar[set[str]] = set()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[[], Responder]]:
    """Return a function that starts node ada, told of round 2, whose base is not that of the requests."""
    own, file = Identities(tmp_path, "ada").node("ada"), write_node(tmp_path / "own")
    context, told = Context(1, 7, {"node": str(file)}, RecordDict(), {}), tmp_path / "ada" / "ada.rounds"
    line = json.dumps({"run": "run", "round": 2, "parent": "00", "adapter": ROUND.parent})
    told.touch(0o600)

    def start() -> Responder:
        told.write_text(line + "\n")
        responder = Responder(lambda: client.app.app, context, LogAuditor(tmp_path / "ada", own))
        responder.prepare()
        return responder

    handler, root = Quiet(), logging.getLogger()
    root.addHandler(handler)
    raising, logging.raiseExceptions = logging.raiseExceptions, True
    yield start
    root.removeHandler(handler)
    logging.raiseExceptions = raising


def test_only_our_errors_leave_a_node_that_a_server_asks(node: Callable[[], Responder]) -> None:
    valid = of_server()

    def read(frames: list[bytes]) -> None:
        message, responder = read_message(frames), node()
        for frame in responder.reply_to(message) or ():
            assert frame

    target = Target(lambda case: changed(case.pick(valid[1:], 0), case), read, (FedloraError,), SIZE, [])
    check_depth(target.fuzz(), errors=8, read=0.05)
    assert len(Quiet.lines) > 12, Quiet.lines
