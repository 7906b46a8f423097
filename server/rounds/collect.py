"""One round's training: sends the same request to each client of the cohort, and collects the valid updates."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.protocol.assignment import Assignment, Training
from common.protocol.messages import RejectionReason, RoundId, assignment_values, pack_assignment
from common.protocol.payload import Payload
from server.algorithms import WeightedUpdate
from server.rounds.messenger import Messenger
from server.rounds.metrics import ClientMetrics
from server.rounds.validation import RejectedReply, ValidUpdate, validate_reply
from server.storage.disk_adapter import DiskAdapter
from server.storage.spool import spool_update


@dataclass(frozen=True)
class RoundRequest:
    """A round's request for training; a client's assignment depends only on its rank."""

    round_id: RoundId
    training: Training
    assignments: Mapping[int, Assignment]


def collect_updates(
    messenger: Messenger,
    request: RoundRequest,
    cohort: Mapping[int, ClientMetrics],
    spool: Callable[[str], Path],
    weights: str,
    done: Callable[[str, str], None],
) -> list[WeightedUpdate]:
    """Return the valid updates with their shares, in order of node name; the records state the result of each client.

    Args:
        messenger: sends the payloads.
        request: the assignments and settings to send.
        cohort: the record of each client, by Flower's number for it; filled in here.
        spool: returns the file for a client's update.
        weights: `examples`, `tokens` or `uniform`.
        done: called with the name and status of each client as its reply arrives.
    """
    # Packed once per rank, not per client: the blob of a large model is large.
    blobs = {rank: pack_assignment(assignment) for rank, assignment in request.assignments.items()}
    shared = request.round_id.to_values() | {"cohort": len(cohort)}
    plain = {r: shared | assignment_values(a, request.training) for r, a in request.assignments.items()}
    payloads = {node: Payload(plain[record.rank], blobs[record.rank]) for node, record in cohort.items()}
    admitted = {}
    for node, reply in messenger.request("train", payloads, request.round_id.round):
        record = cohort[node]
        record.bytes_down += len(blobs[record.rank])
        try:
            update, blob = _validate(reply, request, record)
            modules = spool_update(spool(record.name), blob, update.adapter)
            admitted[record.name] = record, modules, _weight(update, weights)
        except RejectedReply as rejected:
            record.reject(rejected.reason)
        done(record.name, record.status)
    # By name and not by arrival, so that the sum has the same bits in every run.
    return _share([admitted[name] for name in sorted(admitted)])


def _validate(
    reply: Payload | RejectionReason, request: RoundRequest, record: ClientMetrics
) -> tuple[ValidUpdate, bytes]:
    if not isinstance(reply, Payload):
        raise RejectedReply(reply)
    record.bytes_up += len(reply.blob)
    update = validate_reply(reply.values, reply.blob, request.round_id, request.assignments[record.rank])
    record.examples, record.tokens = update.examples, update.tokens
    record.update = hashlib.sha256(reply.blob).hexdigest()
    return update, reply.blob


def _weight(update: ValidUpdate, rule: str) -> int:
    return {"examples": update.examples, "tokens": update.tokens, "uniform": 1}[rule]


def _share(admitted: list[tuple[ClientMetrics, DiskAdapter, int]]) -> list[WeightedUpdate]:
    total = sum(weight for _, _, weight in admitted)
    for record, _, weight in admitted:
        record.share = weight / total
    return [WeightedUpdate(record.share, record.rank, modules) for record, modules, _ in admitted]


def collect_losses(messenger: Messenger, names: Mapping[int, str], payload: Payload, number: int) -> dict[str, float]:
    """Return each node's loss by name, in order of name; a node without a finite loss in its reply is absent.

    Args:
        messenger: sends the payload.
        names: of the nodes to ask, by Flower's number.
        payload: the global update and the round id.
        number: of the round.
    """
    found = {}
    for node, reply in messenger.request("evaluate", dict.fromkeys(names, payload), number):
        loss = reply.values.get("loss") if isinstance(reply, Payload) else None
        if isinstance(loss, float) and math.isfinite(loss):
            found[names[node]] = loss
    return dict(sorted(found.items()))
