"""The run that a journal tells of, again without faults, files of keys, processes and network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload
from server.rounds.run_settings import RunSettings
from server.settings import read_server
from tests.helpers.server.exchange import MemoryExchange, NumpyNode
from tests.helpers.server.runs import run

Entries = Sequence[Mapping[str, Any]]


def phases(entry: Mapping[str, Any]) -> list[list[list[Any]]]:
    """Return the accepted updates of each phase of a round."""
    return [*entry.get("earlier_phases", []), entry["accepted"]]


def run_again(folder: Path, file: Path, entries: Entries, nodes: Sequence[NumpyNode], limit: int) -> Entries:
    """Train the rounds of these entries in memory, by the same nodes in each phase, and return the new entries.

    Args:
        folder: new, for a journal.
        file: the server's.
        entries: of a journal.
        nodes: all that took part.
        limit: the most examples or tokens of a node, by the roster.
    """
    took_part = {
        (entry["round"], number, update[0])
        for entry in entries
        for number, phase in enumerate(phases(entry), 1)
        for update in phase
    }

    def tamper(name: str, kind: Kind, number: int, reply: Payload) -> Payload | RejectionReason:
        absent = kind == "train" and (number, reply.values["phase"], name) not in took_part
        return "absent" if absent else reply

    settings = replace(RunSettings.from_server_file(read_server(file)), quorum=1, attempts=1)
    exchange = MemoryExchange(nodes, tamper)
    return run(folder, exchange, settings, max_rank=entries[0]["max_rank"], limit=lambda name: limit)
