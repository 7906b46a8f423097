"""The numbers of a finished run, read from `metrics.jsonl`: one record per committed round, round 0 before training."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import JournalError
from common.plain_files import read_plain
from server.rounds.metrics import with_current_keys

POOLED = "pooled"
"""Folder of pooled training in a run's: a run of its own, of one client that holds all rows."""

Record = Mapping[str, Any]
"""One committed round; server and nodes measure `loss` in nats per token, or per row for classification."""


@dataclass(frozen=True)
class NodeHistory:
    """One client over the whole run.

    Args:
        rank: the rank it trained at.
        rows: rows it holds.
        examples: rows it trained on, with repetition, summed over rounds.
        tokens: tokens that carried loss, likewise.
        start: loss on its own held-out rows before training; None if never measured.
        end: the same under the last global model it measured; None if it took part in no round.
        bytes_up: bytes it sent; `bytes_down`: bytes it received.
        rounds: rounds it took part in.
        share: its largest share of the sum of a round; None if it took part in none.
    """

    name: str
    rank: int
    rows: int
    examples: int
    tokens: int
    start: float | None
    end: float | None
    bytes_up: int
    bytes_down: int
    rounds: int
    share: float | None


@dataclass(frozen=True)
class Trouble:
    """Rounds in which a client was rejected or absent for one reason, its update was clipped, or was another's."""

    name: str
    status: str
    reason: str
    rounds: tuple[int, ...]


def read_records(run: Path) -> list[Record]:
    """Return every committed round of the run folder, in order; NaN and infinity read as missing.

    Raises:
        JournalError: `metrics.jsonl` is missing, empty, or contains a line that is not a record.
    """
    path = run / "metrics.jsonl"
    try:
        lines = read_plain(path).decode().splitlines()
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}; give the folder of a run") from None
    if not lines:
        raise JournalError(f"{path} is empty: no round was committed; run it again with --resume {run}")
    return [_record(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def read_pooled(run: Path) -> list[Record]:
    """Return the rounds of the run's pooled training so far; none if there is none.

    Raises:
        JournalError: its `metrics.jsonl` contains a line that is not a record.
    """
    metrics = run / POOLED / "metrics.jsonl"
    return read_records(run / POOLED) if metrics.is_file() and metrics.stat().st_size else []


def _record(line: str, place: str) -> Record:
    try:
        record = json.loads(line, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        raise JournalError(f"{place} is not JSON: {error.msg}; check the run with `fedlora verify`") from None
    if not isinstance(record, dict) or "round" not in record:
        raise JournalError(f'{place} does not record a round: it has no "round"; check the run with `fedlora verify`')
    return with_current_keys(record)


def histories(records: Sequence[Record]) -> dict[str, list[tuple[int, Record]]]:
    """Return the reports of each client, with the round, by name."""
    by_name: dict[str, list[tuple[int, Record]]] = {}
    for record in records:
        for client in record["clients"]:
            by_name.setdefault(client["name"], []).append((record["round"], client))
    return dict(sorted(by_name.items()))


def list_nodes(records: Sequence[Record]) -> list[NodeHistory]:
    """Return every client of the run, by falling rank, then by name."""
    nodes = [_node(name, history) for name, history in histories(records).items()]
    return sorted(nodes, key=lambda node: (-node.rank, node.name))


def _node(name: str, history: Sequence[tuple[int, Record]]) -> NodeHistory:
    reports = [client for _, client in history]
    losses = [client[key] for client in reports for key in ("loss_before", "loss_after") if client[key] is not None]
    trained = [client["loss_after"] for number, client in history if number and client["loss_after"] is not None]
    return NodeHistory(
        name=name,
        rank=max(client["rank"] or 0 for client in reports),
        rows=max(client["rows"] or 0 for client in reports),
        examples=sum_nodes(reports, "examples"),
        tokens=sum_nodes(reports, "tokens"),
        start=losses[0] if losses else None,
        end=trained[-1] if trained else None,
        bytes_up=sum_nodes(reports, "bytes_up"),
        bytes_down=sum_nodes(reports, "bytes_down"),
        rounds=sum(client["status"] == "ok" for number, client in history if number),
        share=max((client.get("share") or 0.0 for number, client in history if number), default=None),
    )


def sum_nodes(clients: Iterable[Record], key: str) -> int:
    """Sum one count over clients; a missing one counts as 0."""
    return sum(client[key] or 0 for client in clients)


def exp(nats: float) -> float:
    """Return exp(loss), the perplexity of a language model, capped below the largest float64."""
    return math.exp(min(nats, 700.0))


def held_out(record: Record) -> float | None:
    """Return the clients' mean loss on their own held-out rows after the round, or None if no client measured it."""
    losses = [client["loss_after"] for client in record["clients"] if client["loss_after"] is not None]
    return sum(losses) / len(losses) if losses else None


def list_troubles(records: Sequence[Record]) -> list[Trouble]:
    """Return rejected and absent clients, each reason once with its rounds, rejections first; then remarks."""
    rounds: dict[tuple[str, str, str], list[int]] = {}
    for record in records:
        for client in record["clients"]:
            if client["status"] in ("refused", "absent"):
                key = (client["status"], client["name"], client["reason"] or "no reason given")
                rounds.setdefault(key, []).append(record["round"])
    keys = sorted(rounds, key=lambda key: (key[0] != "refused", *key))
    left_out = [Trouble(name, status, reason, tuple(rounds[status, name, reason])) for status, name, reason in keys]
    return left_out + _list_remarks(records)


def _list_remarks(records: Sequence[Record]) -> list[Trouble]:
    """Return whose updates were clipped, with the smallest factor, and whose were identical to another node's."""
    clipped: dict[str, dict[int, float]] = {}
    identical: dict[tuple[str, str], list[int]] = {}
    for number, client in ((record["round"], client) for record in records for client in record["clients"]):
        if client.get("clip", 1.0) < 1:
            clipped.setdefault(client["name"], {})[number] = client["clip"]
        if other := client.get("same_as"):
            identical.setdefault((client["name"], other), []).append(number)
    scaled = [
        Trouble(name, "clipped", f"norm bound; smallest factor {min(found.values()):.2g}", tuple(found))
        for name, found in sorted(clipped.items())
    ]
    return scaled + [
        Trouble(name, "identical", f"same update as {other}", tuple(found))
        for (name, other), found in sorted(identical.items())
    ]
