"""A run over all its rounds, added up in one pass that holds one round at a time: 2,000 rounds of 500 nodes fit."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from common.report.records import Record, held_out
from common.report.traffic import Part, list_parts, part_bytes

Value = TypeVar("Value")

Points = Sequence[tuple[int, float]]
"""Values by round."""

_LINES = 60
"""Most nodes of which the loss of each round is kept, the first by time."""


@dataclass(frozen=True)
class NodeHistory:
    """One client over the whole run.

    Args:
        rank: the rank it trained at.
        rows: rows it holds, without `skipped` ones that it left out as unusable.
        examples: rows it trained on, with repetition, summed over rounds.
        tokens: tokens that carried loss, likewise.
        start: loss on its own held-out rows before training; None if never measured.
        end: the same under the last global model it measured; None if it took part in no round.
        bytes_up: bytes it sent; `bytes_down`: bytes it received.
        rounds: rounds it took part in.
        share: its largest share of the sum of a round; None if it took part in none.
        status: in the last round that told of it, `ok`, `refused` or `absent`; `reason` is the reason word for it.
    """

    name: str
    rank: int = 0
    rows: int = 0
    skipped: int = 0
    examples: int = 0
    tokens: int = 0
    start: float | None = None
    end: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    rounds: int = 0
    share: float | None = None
    status: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class Trouble:
    """Rounds in which a client was rejected or absent for one reason, its update was clipped, or was another's."""

    name: str
    status: str
    reason: str
    rounds: tuple[int, ...]


@dataclass(frozen=True)
class History:
    """A run as a page shows it.

    Args:
        rounds: each record without `clients`, and with `held_out`, their mean loss after it; `counted`, the number of
            updates in its sum; and `parts`, bytes by part.
        nodes: every client, by falling rank, then by name.
        troubles: rejected and absent clients, each reason once with its rounds, rejections first; then clipped and
            identical updates.
        losses: loss of single clients on their held-out rows, by name.
        parts: bytes of the whole run.
    """

    rounds: Sequence[Record]
    nodes: Sequence[NodeHistory]
    troubles: Sequence[Trouble]
    losses: Mapping[str, Points]
    parts: Sequence[Part]


def thin(values: Sequence[Value], most: int) -> Sequence[Value]:
    """Return at most this many of the values, evenly spread, the last among them."""
    step = -(-len(values) // most)
    return values[::-1][::step][::-1] if step > 1 else values


@dataclass
class _Sums:
    """What the pass has added up so far."""

    rounds: list[Record] = field(default_factory=list)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    left_out: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    clipped: dict[str, dict[int, float]] = field(default_factory=dict)
    identical: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    parts: Counter[str] = field(default_factory=Counter)


def add_up(records: Iterable[Record]) -> History:
    """Return the history of these rounds, which are in order."""
    sums = _Sums()
    for record in records:
        _add_round(sums, record)
    nodes = [NodeHistory(name=name, **node) for name, node in sums.nodes.items()]
    turns = sum(node.rounds for node in nodes)
    return History(
        rounds=sums.rounds,
        nodes=sorted(nodes, key=lambda node: (-node.rank, node.name)),
        troubles=[*_left_out(sums), *_remarks(sums)],
        losses=sums.losses,
        parts=list_parts(sums.parts, turns),
    )


def _add_round(sums: _Sums, record: Record) -> None:
    parts, clients = part_bytes(record), record["clients"]
    counted = sum(client["status"] == "ok" for client in clients)
    told = {"held_out": held_out(record), "counted": counted, "parts": parts}
    sums.rounds.append({key: value for key, value in record.items() if key != "clients"} | told)
    sums.parts.update(parts)
    for client in clients:
        _add_client(sums.nodes.setdefault(client["name"], {}), client, record["round"])
        _add_loss(sums, client, record["round"])
        _add_trouble(sums, client, record["round"])


def _add_client(node: dict[str, Any], client: Record, number: int) -> None:
    for key in ("rank", "rows", "skipped"):
        node[key] = max(node.get(key, 0), client.get(key) or 0)
    for key in ("examples", "tokens", "bytes_up", "bytes_down"):
        node[key] = node.get(key, 0) + (client[key] or 0)
    before, after = client["loss_before"], client["loss_after"]
    if node.get("start") is None:
        node["start"] = after if before is None else before
    if number:
        node["end"] = node.get("end") if after is None else after
        node["rounds"] = node.get("rounds", 0) + (client["status"] == "ok")
        node["share"] = max(node.get("share") or 0.0, client.get("share") or 0.0)
    node["status"], node["reason"] = client["status"], client["reason"]


def _add_loss(sums: _Sums, client: Record, number: int) -> None:
    name, loss = client["name"], client["loss_after"]
    if loss is not None and (name in sums.losses or len(sums.losses) < _LINES):
        sums.losses.setdefault(name, []).append((number, loss))


def _add_trouble(sums: _Sums, client: Record, number: int) -> None:
    name = client["name"]
    if client["status"] in ("refused", "absent"):
        key = (client["status"], name, client["reason"] or "no reason given")
        sums.left_out.setdefault(key, []).append(number)
    if client.get("clip", 1.0) < 1:
        sums.clipped.setdefault(name, {})[number] = client["clip"]
    if other := client.get("same_as"):
        sums.identical.setdefault((name, other), []).append(number)


def _left_out(sums: _Sums) -> list[Trouble]:
    keys = sorted(sums.left_out, key=lambda key: (key[0] != "refused", *key))
    return [Trouble(name, status, why, tuple(sums.left_out[status, name, why])) for status, name, why in keys]


def _remarks(sums: _Sums) -> list[Trouble]:
    """Return whose updates were clipped, with the smallest factor, and whose were identical to another node's."""
    scaled = [
        Trouble(name, "clipped", f"norm bound; smallest factor {min(found.values()):.2g}", tuple(found))
        for name, found in sorted(sums.clipped.items())
    ]
    return scaled + [
        Trouble(name, "identical", f"same update as {other}", tuple(found))
        for (name, other), found in sorted(sums.identical.items())
    ]
