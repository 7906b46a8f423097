"""One phase of a round: sends each client of the cohort its assignment, and collects the valid updates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.protocol.assignment import Assignment, CountedReply, Training
from common.protocol.messages import (
    FROZEN,
    RejectionReason,
    RoundId,
    assignment_values,
    pack_assignment,
    pack_shared,
    pack_terms,
)
from common.protocol.payload import Payload
from common.protocol.replies import train_values
from server.algorithms.weighting import ClientUpdate
from server.links.grace import Grace
from server.links.links import Links
from server.metrics.clients import ClientMetrics
from server.rounds.validation import RejectedReply, ValidReply, validate_reply
from server.storage.spool import spool_update


@dataclass(frozen=True)
class RoundRequest:
    """A request for training in one phase of a round.

    Args:
        round_id: of the phase.
        phases: number of phases of the round.
        training: returns a client's settings, by its name.
        assign: returns a client's assignment, by its name and rank.
        counted: returns a client's last reply that counts, by its name; None where clients keep no memory.
    """

    round_id: RoundId
    phases: int
    training: Callable[[str], Training]
    assign: Callable[[str, int], Assignment]
    counted: Callable[[str], CountedReply] | None = None

    def values(self, name: str, assignment: Assignment) -> dict[str, Any]:
        """Return the plain values of the request to this client, but for those that all clients get."""
        counted = self.counted(name).to_values() if self.counted else {}
        return assignment_values(assignment, self.training(name)) | counted


def collect_updates(
    links: Links,
    request: RoundRequest,
    cohort: Mapping[int, ClientMetrics],
    spool: Callable[[str], Path],
    done: Callable[[str, str], None],
    grace: Grace,
) -> list[ClientUpdate]:
    """Return the valid updates in order of node name; the records state the result of each client.

    Args:
        links: send the payloads.
        request: the assignments and settings to send.
        cohort: the record of each client, by Flower's number for it; filled in here.
        spool: returns the file for a client's update.
        done: called with the name and status of each client as its reply arrives.
        grace: for nodes that report nothing; told of each reply that counts.
    """
    payloads, assigned = _payloads(request, cohort)
    admitted = {}
    for node, reply, sent in links.request("train", payloads, request.round_id.round, grace):
        record = cohort[node]
        record.count_down(sent)
        try:
            admitted[record.name] = _admit(reply, request, assigned[node], record, spool)
            grace.count()
        except RejectedReply as rejected:
            record.reject(rejected.reason)
        done(record.name, record.status)
    # By name and not by arrival, so that the sum has the same bits in every run.
    return [admitted[name] for name in sorted(admitted)]


def _payloads(
    request: RoundRequest, cohort: Mapping[int, ClientMetrics]
) -> tuple[dict[int, Payload], dict[int, Assignment]]:
    """Return each node's payload and its assignment; equal buffers and assignments are in memory once."""
    packed, shared = _Packed(), request.round_id.to_values() | {"cohort": len(cohort), "phases": request.phases}
    payloads, assigned = {}, {}
    for node, record in cohort.items():
        assignment = request.assign(record.name, record.rank)
        blob, start = packed.start(assignment)
        payloads[node] = Payload(shared | request.values(record.name, assignment), blob, packed.parts(assignment))
        assigned[node] = replace(assignment, start=start, frozen=Adapter(), terms=())
    return payloads, assigned


class _Packed:
    """The buffers of a phase; equal ones, and equal start factors, are in memory once."""

    def __init__(self) -> None:
        self._frozen: dict[int, tuple[Adapter, bytes]] = {}
        self._starts: dict[bytes, tuple[bytes, Adapter]] = {}
        self._buffers: dict[bytes, bytes] = {}

    def start(self, assignment: Assignment) -> tuple[bytes, Adapter]:
        """Return the packed start factors, and the factors."""
        blob = pack_assignment(assignment)
        return self._starts.setdefault(blob, (blob, assignment.start))

    def parts(self, assignment: Assignment) -> dict[str, bytes]:
        """Return the other buffers of the assignment by name."""
        frozen = {FROZEN: self._encoded(assignment.frozen)} if assignment.frozen else {}
        return frozen | self._one(pack_shared(assignment)) | pack_terms(assignment)

    def _one(self, parts: dict[str, bytes]) -> dict[str, bytes]:
        return {name: self._buffers.setdefault(buffer, buffer) for name, buffer in parts.items()}

    def _encoded(self, frozen: Adapter) -> bytes:
        if id(frozen) not in self._frozen:
            self._frozen[id(frozen)] = frozen, encode_adapter(frozen)
        return self._frozen[id(frozen)][1]


def _admit(
    reply: Payload | RejectionReason,
    request: RoundRequest,
    assignment: Assignment,
    record: ClientMetrics,
    spool: Callable[[str], Path],
) -> ClientUpdate:
    """Return the update of a valid reply, whose factors are spooled.

    Raises:
        RejectedReply: there is none, or it is not valid.
    """
    valid, payload = _validate(reply, request, assignment, record)
    modules = spool_update(spool(record.name), payload.blob, valid.adapter, train_values(payload.values))
    own = record.name, record.rank, record.examples, record.tokens
    signature = str(payload.values.get("signature", ""))
    update = ClientUpdate(*own, modules, assignment, valid.norm, update=payload.blob_hash, signature=signature)
    return replace(update, noise=valid.values.noise)


def _validate(
    reply: Payload | RejectionReason, request: RoundRequest, assignment: Assignment, record: ClientMetrics
) -> tuple[ValidReply, Payload]:
    if not isinstance(reply, Payload):
        raise RejectedReply(reply)
    record.bytes_up += len(reply.blob)
    valid = validate_reply(reply, request.round_id, assignment, request.training(record.name))
    record.examples, record.tokens, record.update = valid.values.examples, valid.values.tokens, reply.blob_hash
    record.norm = valid.norm
    return valid, reply
