"""What crossed the links of a run, by part: bytes as counted where they were sent."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from common.report.records import Record

LABELS = {
    "whole": "down: whole global update, the first or where a client holds too little of it",
    "change": "down: change of the global update since what a client holds",
    "factors": "down: factors to train from",
    "head": "down: for a head in closed form",
    "plan": "down: for ranks under a budget",
    "evaluation": "down: with requests to evaluate",
    "down": "down, in rounds that did not tell the parts",
    "up": "up: trained factors or gradients, and sums for a head in closed form",
}


@dataclass(frozen=True)
class Part:
    """Bytes of one part.

    Args:
        label: for people.
        total: to or from all clients, in all rounds.
        mean: of a client in a round in which it was asked to train.
        share: of all bytes.
    """

    label: str
    total: int
    mean: float
    share: float


def part_bytes(record: Record) -> Counter[str]:
    """Return the bytes of a round by part, all clients together."""
    sums: Counter[str] = Counter()
    for client in record["clients"]:
        told = client.get("bytes_by_part") or {}
        sums.update({**told, "down": (client["bytes_down"] or 0) - sum(told.values()), "up": client["bytes_up"] or 0})
    head = record.get("head") or {}  # also nodes outside the cohort are asked for it
    sums.update({"head": head.get("others_bytes_down", 0), "up": head.get("others_bytes_up", 0)})
    return sums


def list_parts(sums: Mapping[str, int], turns: int) -> list[Part]:
    """Return the parts that a run has, in the order of `LABELS`.

    Args:
        sums: bytes of all rounds by part.
        turns: updates that counted, in all rounds.
    """
    total = sum(sums.values())
    found = ((label, sums[part]) for part, label in LABELS.items() if sums.get(part))
    return [Part(label, size, size / max(turns, 1), size / total) for label, size in found]
