"""The buffers of factors that cross the network and lie on the disk."""

import json
from hashlib import sha256

import pytest

from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter, encode_adapter
from common.adapters.codec_header import parse_header
from common.adapters.joined import stack_adapters
from common.adapters.link_codecs import CODECS, Held, MissingBuffer
from common.errors import CodecError
from common.protocol.assignment import Assignment, Training, Update
from common.protocol.messages import RoundId, pack_update
from common.protocol.payload import Payload
from server.rounds.validation import RejectedReply, validate_reply
from tests.fuzz.mutations import PLAIN_VALUES, VALUES, Case, change_bytes, change_tree, write_json
from tests.fuzz.target import Target, check_depth
from tests.helpers.common.buffers import data_of, header_of, random_adapter, sealed

pytestmark = pytest.mark.slow

SMALL = random_adapter({"layers.0.q": (6, 5, 2), "layers.0.v": (4, 7, 3), "layers.1.q": (6, 5, 0), "ü": (1, 1, 1)})
OMITTED = {"layers.0.v.a", "layers.0.q.b", "ü.a", "ü.b"}
BLOBS = [encode_adapter(SMALL, dtype, omit) for dtype in ("f32", "bf16", "f16", "f64", "i8") for omit in ((), OMITTED)]
HEADERS = [header_of(blob) for blob in BLOBS]
PARTS = ["whole", "start", "bytes", "tree", "sizes", "sizes", "sizes", "data"]
SIZES = (0, 1, 2, 3, 5, 7, 2**16, 2**22, 2**26, 2**31 - 1, 2**31, "", "a", "ab", "f32", "i8", "f64")


def changed_header(header: bytes, part: str, case: Case) -> bytes:
    if part == "bytes":
        return change_bytes(header, case.changes)
    tree = change_tree(json.loads(header), case.changes, SIZES if part == "sizes" else VALUES)
    return write_json(tree, ensure_ascii=False, separators=(",", ":"))


def changed_blob(case: Case) -> bytes:
    return remade(case.pick(BLOBS, 0), case)


def remade(blob: bytes, case: Case) -> bytes:
    part = case.pick(PARTS, 1)
    if part == "whole":
        return change_bytes(blob, case.changes)
    if part == "start":
        return change_bytes(blob[:24], case.changes) + blob[24:]
    if part == "data":
        return sealed(header_of(blob), change_bytes(data_of(blob), case.changes))
    return sealed(changed_header(header_of(blob), part, case), data_of(blob))


def read_blob(blob: bytes) -> None:
    decode_adapter(blob, known=SMALL)


CODEC = Target(changed_blob, read_blob, (CodecError,), 2**17, BLOBS)


def test_only_a_codec_error_leaves_the_codec() -> None:
    check_depth(CODEC.fuzz(), errors=15, read=0.05)


def test_only_a_codec_error_leaves_the_header() -> None:
    def make(case: Case) -> bytes:
        return changed_header(case.pick(HEADERS, 0), case.pick(["bytes", "tree", "sizes"], 1), case)

    check_depth(Target(make, parse_header, (CodecError,), 2**17, HEADERS).fuzz(), errors=12)


def test_only_a_missing_buffer_or_a_codec_error_leaves_the_link_codecs() -> None:
    held = {sha256(blob).hexdigest(): blob for blob in BLOBS}
    known = [Held.of(blob, digest) for digest, blob in held.items()]
    sent = [CODECS["by-hash"].encode(blob, digest, known, "float32") for digest, blob in held.items()]
    grown = encode_adapter(stack_adapters(SMALL, SMALL))
    sent += [CODECS["by-change"].encode(grown, sha256(grown).hexdigest(), [each], "float32") for each in known]
    sent += [b"*" + encode_adapter(SMALL, "i8"), b"=#a", b"==", *BLOBS]

    def make(case: Case) -> bytes:
        return change_bytes(case.pick(sent, 0), case.changes)

    def read(data: bytes) -> None:
        for codec in CODECS.values():
            codec.decode(data, held)

    check_depth(Target(make, read, (MissingBuffer, CodecError), 2**17, sent).fuzz(), errors=5, read=0.2)


def test_only_a_rejection_leaves_the_validation_of_an_update() -> None:
    asked = {trains: Assignment(Adapter(), SMALL, trains) for trains in ("both", "b", "a")}
    order, steps = RoundId("run", 3, "parent", "base"), Training((0.1, 0.1), batch=4)
    values = order.to_values() | {"examples": 8, "tokens": 70, "loss": 0.5}
    valid = [(pack_update(Update(SMALL, 8, 70, 0.5), trains), trains, values) for trains in asked]

    def make(case: Case) -> tuple[bytes, str, dict]:
        blob, trains, _ = case.pick(valid, 2)
        if case.pick([True, False, False], 3):
            told = change_tree(values, case.changes, PLAIN_VALUES)
            return blob, trains, told if isinstance(told, dict) else {}
        return changed_blob(case) if case.pick([True, False], 4) else remade(blob, case), trains, values

    def read(made: tuple[bytes, str, dict]) -> None:
        blob, trains, told = made
        validate_reply(Payload(told, blob), order, asked[trains], steps)

    check_depth(Target(make, read, (RejectedReply,), 2**17, valid).fuzz(), errors=5, read=0.02)
