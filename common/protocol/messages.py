"""The wire form of assignments and updates: buffers of factors beside a few plain values."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from math import nextafter
from typing import Any, Literal

from common.adapters.adapter import Adapter
from common.adapters.codec import DecodeLimits, decode_adapter, encode_adapter, encoded_size
from common.adapters.gradient import gradient_form, unsent
from common.adapters.rounding import STORED, WIRES, Wire, round_adapter
from common.errors import ConfigError, DataError, ModelError
from common.protocol.assignment import Assignment, Term, Training, Trains, Update
from common.protocol.channel import REPLY_BYTES
from common.protocol.values import Rule, Values

ADAPTER_STYPE = "fedlora.v1"
"""Type of the one array that a message carries: the bytes of `common.adapters.codec`."""

RejectionReason = Literal[
    "absent",
    "base",
    "codec",
    "device",
    "expired",
    "failed",
    "malformed",
    "missing",
    "model",
    "name",
    "nan",
    "policy",
    "rank",
    "replay",
    "revoked",
    "rows",
    "settings",
    "shape",
    "signature",
    "stale",
    "unknown",
    "weight",
]
"""The reason word with which a node or its reply is rejected."""


def fault_word(error: Exception) -> RejectionReason:
    """Return the word for a node that cannot take part for this error, whose text stays with the node's owner."""
    words: dict[type[Exception], RejectionReason] = {DataError: "rows", ModelError: "model", ConfigError: "settings"}
    return words.get(type(error), "failed")


FROZEN = "frozen"
"""Name of the buffer of factors that a node only adds to its base."""
ENDED = "ended"
"""Name of the value of a request that brings the last global update of a run: the server's signature over it."""
SHARED = "shared"
"""Name of the buffer of an A that stays for many exchanges."""


@dataclass(frozen=True)
class RoundId(Values):
    """The run and round that a message belongs to; the reply repeats it.

    Args:
        run: identity of the run.
        round: counted from 1; 0 before training.
        parent: hash of the adapter that the round starts from.
        base: fingerprint that the node must have.
        attempt: counted from 1 within the round; earlier attempts were abandoned.
        phase: counted from 1 within the attempt; each is one exchange with the cohort.
    """

    run: str
    round: int
    parent: str
    base: str
    attempt: int = 1
    phase: int = 1

    def is_of(self, other: "RoundId") -> bool:
        """Return whether this message, which may have more values, belongs where `other` does."""
        return all(getattr(self, name) == value for name, value in vars(other).items())


def assignment_values(assignment: Assignment, training: Training) -> dict[str, Any]:
    """Return the plain values that go beside an assignment's buffers."""
    numbers = {f"{term.name}.{key}": value for term in assignment.terms for key, value in term.numbers.items()}
    own: dict[str, Any] = {"trains": assignment.trains, "scaling": assignment.scaling, "returns": assignment.returns}
    if assignment.returns == "compressed-gradient":
        own["reply_rank"] = assignment.reply_rank
    if assignment.wire != "float32":
        own["wire"] = assignment.wire
    own[REPLY_BYTES] = _reply_bytes(assignment)
    return training.to_values() | own | {"terms": [term.name for term in assignment.terms]} | numbers


def pack_assignment(assignment: Assignment) -> bytes:
    """Pack the start factors, but for a B of zeros, and for each A that `pack_shared` packs."""
    start = assignment.start
    zero = {f"{name}.b" for name, factors in start.items() if not factors.b.any()}
    return encode_adapter(start, STORED[assignment.wire], omit=zero | _shared(assignment))


def pack_shared(assignment: Assignment) -> dict[str, bytes]:
    """Pack the A that all nodes have in common for many exchanges, which a node is sent once."""
    if not _shared(assignment):
        return {}
    omit = {f"{name}.b" for name in assignment.start}
    return {SHARED: encode_adapter(assignment.start, STORED[assignment.wire], omit)}


def pack_terms(assignment: Assignment) -> dict[str, bytes]:
    """Pack the adapter of each term that has one, by the term's name; an A that is the start's is not sent."""
    lent, stored = lent_factors(assignment.start, assignment.trains), STORED[assignment.wire]
    return {term.name: encode_adapter(term.adapter, stored, lent) for term in assignment.terms if term.adapter}


def _shared(assignment: Assignment) -> set[str]:
    compressed = assignment.returns == "compressed-gradient" and assignment.trains == "b"
    return {f"{name}.a" for name in assignment.start} if compressed else set()


_SCALING = Rule(float, low=nextafter(0, 1))
_REPLY_RANK = Rule(int, low=0)
_WIRE = Rule(str)


def unpack_assignment(values: Mapping[str, Any], blob: bytes, parts: Mapping[str, bytes]) -> Assignment:
    """Undo `assignment_values` and the packing of each buffer.

    Args:
        values: the plain values of the message.
        blob: the start factors.
        parts: further buffers by name: of the frozen factors, and of terms.

    Raises:
        KeyError, TypeError, InvalidValue: a value is missing, or of another form.
        CodecError: a buffer is malformed.
        ConfigError: this release does not know the wire.
    """
    _SCALING.check("scaling", values["scaling"])
    _REPLY_RANK.check("reply_rank", reply_rank := values.get("reply_rank", 0))
    _WIRE.check("wire", wire := values.get("wire", "float32"))
    if wire not in WIRES:
        raise ConfigError(f"the run sends factors in {wire!r:.40}, and this release knows {', '.join(WIRES)}")
    shared = decode_adapter(parts[SHARED]) if SHARED in parts else None
    start = decode_adapter(blob, known=shared).astype("f4")
    frozen = decode_adapter(parts[FROZEN]) if FROZEN in parts else Adapter()
    terms = tuple(_unpack_term(name, values, parts.get(name), start) for name in values["terms"])
    return Assignment(frozen, start, values["trains"], values["scaling"], terms, values["returns"], reply_rank, wire)


def _unpack_term(name: str, values: Mapping[str, Any], blob: bytes | None, start: Adapter) -> Term:
    numbers = {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}
    return Term(name, numbers, decode_adapter(blob, known=start).astype("f4") if blob else Adapter())


def reply_form(assignment: Assignment) -> Adapter:
    """Return an adapter of the names, shapes and ranks of a valid reply, with the factors that it leaves out."""
    if assignment.returns == "compressed-gradient":
        return gradient_form(assignment.start, assignment.trains, assignment.reply_rank)
    return assignment.start


def pack_update(update: Update, trains: Trains, wire: Wire = "float32") -> bytes:
    """Pack the trained factors into one buffer; an A that was only lent is not sent back."""
    return encode_adapter(update.adapter, STORED[wire], omit=lent_factors(update.adapter, trains))


def pack_rounded(update: Update, assignment: Assignment, key: tuple[int | str, ...]) -> bytes:
    """Pack the trained factors into one buffer, rounded to the wire of the assignment by this key."""
    lent = lent_factors(update.adapter, assignment.trains)
    rounded = round_adapter(update.adapter, assignment.wire, *key, omit=lent)
    return pack_update(replace(update, adapter=rounded), assignment.trains, assignment.wire)


def pack_gradient(gradient: Adapter, wire: Wire = "float32") -> bytes:
    """Pack a compressed gradient into one buffer, without its identities."""
    return encode_adapter(gradient, STORED[wire], omit=unsent(gradient))


def lent_factors(adapter: Adapter, trains: Trains) -> Container[str]:
    """Return the flat names of the factors that a reply leaves out."""
    return {f"{name}.a" for name in adapter} if trains == "b" else ()


def _reply_bytes(assignment: Assignment) -> int:
    form = reply_form(assignment)
    compressed = assignment.returns == "compressed-gradient"
    omit = unsent(form) if compressed else lent_factors(form, assignment.trains)
    return encoded_size(form, STORED[assignment.wire], omit)


def unpack_update(buffer: bytes, assignment: Assignment, limits: DecodeLimits) -> Adapter:
    """Return the factors of a reply as views on the buffer, completed by each A that is not sent.

    Raises:
        CodecError: the buffer is malformed or beyond the limits.
    """
    completed = assignment.trains == "b" or assignment.returns == "compressed-gradient"
    return decode_adapter(buffer, limits, known=reply_form(assignment) if completed else None)
