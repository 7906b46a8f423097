"""One round's training: the same order to every client of the cohort, and the updates that come back in time."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.protocol.assignment import Assignment, Training
from common.protocol.messages import Order, Reason, assignment_values, pack_assignment
from common.protocol.payload import Letter
from server.algorithms import Weighted
from server.rounds.messenger import Exchange
from server.rounds.metrics import ClientRecord
from server.rounds.validation import Admitted, Refused, admit
from server.storage.disk_adapter import OnDisk
from server.storage.spool import spooled


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


def losses(exchange: Exchange, names: Mapping[int, str], letter: Letter, number: int) -> dict[str, float]:
    """Each node's loss by name, in order of name; a node that says none, or none that is a number, is absent.

    Args:
        exchange: carries the letters.
        names: of the nodes to ask, by Flower's number.
        letter: the global update and the order.
        number: of the round.
    """
    found = {}
    for node, reply in exchange.ask("evaluate", dict.fromkeys(names, letter), number):
        loss = reply.values.get("loss") if isinstance(reply, Letter) else None
        if isinstance(loss, float) and math.isfinite(loss):
            found[names[node]] = loss
    return dict(sorted(found.items()))
