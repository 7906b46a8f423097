"""One round's training: the same order to every client of the cohort, and the updates that come back in time."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.assignment import Assignment, Training
from common.messages import Order, Reason, assignment_values, pack_assignment
from server.admission import Admitted, Refused, admit
from server.algorithms import Weighted
from server.exchange import Exchange, Letter
from server.on_disk import OnDisk
from server.record import ClientRecord
from server.spool import spooled


@dataclass(frozen=True)
class Call:
    """What a round asks for; a client's assignment depends on its rank alone."""

    order: Order
    training: Training
    assignments: Mapping[int, Assignment]


def collect(
    exchange: Exchange,
    call: Call,
    cohort: Mapping[int, ClientRecord],
    spool: Callable[[str], Path],
    weights: str,
    done: Callable[[str, str], None],
) -> list[Weighted]:
    """Admitted updates with their shares, in order of node name; the records say what became of each client.

    Args:
        exchange: carries the letters.
        call: what is asked.
        cohort: the record of each client, by Flower's number for it; filled in here.
        spool: the file for a client's update.
        weights: `examples`, `tokens` or `uniform`.
        done: told the name and status of each client as its reply arrives.
    """
    blobs = {rank: pack_assignment(assignment) for rank, assignment in call.assignments.items()}
    shared = vars(call.order) | {"cohort": len(cohort)}
    plain = {r: shared | assignment_values(a, call.training) for r, a in call.assignments.items()}
    letters = {node: Letter(plain[record.rank], blobs[record.rank]) for node, record in cohort.items()}
    admitted = {}
    for node, reply in exchange.ask("train", letters, call.order.round):
        record = cohort[node]
        record.bytes_down += len(blobs[record.rank])
        try:
            update, blob = _admit(reply, call, record)
            modules = spooled(spool(record.name), blob, update.adapter)
            admitted[record.name] = record, modules, _weight(update, weights)
        except Refused as refused:
            record.refuse(refused.reason)
        done(record.name, record.status)
    return _shared([admitted[name] for name in sorted(admitted)])


def _admit(reply: Letter | Reason, call: Call, record: ClientRecord) -> tuple[Admitted, bytes]:
    if not isinstance(reply, Letter):
        raise Refused(reply)
    record.bytes_up += len(reply.blob)
    update = admit(reply.values, reply.blob, call.order, call.assignments[record.rank])
    record.examples, record.tokens = update.examples, update.tokens
    record.update = hashlib.sha256(reply.blob).hexdigest()
    return update, reply.blob


def _weight(update: Admitted, rule: str) -> int:
    return {"examples": update.examples, "tokens": update.tokens, "uniform": 1}[rule]


def _shared(admitted: list[tuple[ClientRecord, OnDisk, int]]) -> list[Weighted]:
    total = sum(weight for _, _, weight in admitted)
    for record, _, weight in admitted:
        record.share = weight / total
    return [Weighted(record.share, record.rank, modules) for record, modules, _ in admitted]
