"""A plan: what one run is, and what happens to it, as a pure function of a seed."""

from dataclasses import dataclass
from math import exp, log

import numpy as np

from common.seeding import rng

NAMES = ("ada", "bob", "cyd", "dan")
LATE = "eve"
"""The node that is admitted while the run goes on."""
SPOILS = (
    *("shape", "another-rank", "nan", "nan-loss", "weight", "weight-in-words", "old-round", "another-run"),
    *("another-base", "oversized", "truncated", "flipped", "replayed", "garbled", "twice"),
)
"""Ways to spoil a reply; `twice` leaves it honest."""
PARTS = {
    "server": ("log.jsonl", ".state", "adapter/", "metrics.jsonl", "spool/"),
    "": (".rounds", ".sent", ".receipts"),
}
"""Parts of the paths of files that matter, of the server and of a node: to them, half of the kills."""
AT_OPERATION = ("kill", "torn", "full", "clock")
"""Faults at a process's k-th operation on files: before it, in the middle of a write, no space, another hour."""
AFTER_ROUND = (
    *("stop", "term", "kill-now", "cut", "delay", "corrupt", "truncate", "lo-down", "netem", "slow"),
    *("no-space", "revoke", "admit", "renew-server", "renew-node"),
)
"""Faults and changes once a round is in the log."""
OF_NODES = ("cut", "delay", "corrupt", "truncate", "renew-node")
OF_THE_PROJECT = ("lo-down", "netem", "slow", "no-space", "renew-server")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        kind: one of `AT_OPERATION`, of `AFTER_ROUND`, or `reply`.
        where: `server`, the name of a node, or `project`.
        at: the number of the operation, or of the round.
        value: seconds, hours, failing operations, part of the path of the files that count, or a way to spoil a reply,
            by kind.
    """

    kind: str
    where: str
    at: int
    value: float | str = 0.0

    def __str__(self) -> str:
        value = f"{self.value:g}" if isinstance(self.value, float) else self.value
        return f"{self.kind}@{self.where}:{self.at}" + (f"={value}" if self.value else "")


@dataclass(frozen=True)
class Plan:
    """A run and its faults; `ranks` are by name of the node, `server` holds keys of [server]."""

    seed: int
    rounds: int
    ranks: dict[str, int]
    quorum: int
    server: dict[str, object]
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        rule = " ".join(f"{key}={value}" for key, value in self.server.items())
        nodes = " ".join(f"{name}:{rank}" for name, rank in self.ranks.items())
        faults = " ".join(map(str, self.faults))
        return f"{rule} rounds={self.rounds} quorum={self.quorum} {nodes} | {faults}"

    def of(self, where: str, kinds: tuple[str, ...]) -> list[Fault]:
        """Return the faults of these kinds in one place."""
        return [fault for fault in self.faults if fault.where == where and fault.kind in kinds]

    def of_rounds(self) -> list[Fault]:
        """Return what happens after a round, in that order."""
        return sorted((fault for fault in self.faults if fault.kind in AFTER_ROUND), key=lambda fault: fault.at)


def make_plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    draw = _Draw(rng("chaos", seed))
    rounds, names = draw.between(2, 5), NAMES[: draw.between(3, 4)]
    server = draw.rule()
    one_rank = server["algorithm"] == "fedit"
    ranks = {name: 4 if one_rank else draw.between(2, 8) for name in names}
    spoiler, gone = draw.one(names), draw.one(names)
    faults = [draw.fault(names, rounds) for _ in range(draw.between(2, 5))]
    faults += draw.replies(spoiler, rounds) + draw.roster(gone, rounds)
    lost = {fault.where for fault in faults if fault.kind in ("reply", "revoke")}
    quorum = draw.between(min(2, len(names) - len(lost)), len(names) - len(lost))
    return Plan(seed, rounds, ranks, quorum, server, tuple(sorted(faults, key=str)))


class _Draw:
    """Draws of one plan, in a fixed order."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def between(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high + 1))

    def one(self, of: tuple[str, ...]) -> str:
        return of[self.between(0, len(of) - 1)]

    def chance(self, share: float) -> bool:
        return bool(self._random.random() < share)

    def rule(self) -> dict[str, object]:
        """Return keys of [server]."""
        algorithm = self.one(("increments", "increments", "fedlin", "fedit", "hetlora"))
        rule: dict[str, object] = {"algorithm": algorithm, "codec": self.one(("by-change", "by-hash", "plain"))}
        if algorithm == "fedlin":
            rule["mode"] = "b"
        if algorithm == "increments":
            rule["a"] = self.one(("warm", "fresh", "gaussian"))
        if algorithm != "hetlora":
            rule["weights"] = self.one(("examples", "tokens", "uniform", "norm"))
        return rule | {"keep_updates": "all" if self.chance(0.7) else "none"}

    def fault(self, names: tuple[str, ...], rounds: int) -> Fault:
        """Return any fault but those of replies and of the roster's members."""
        kinds = *AT_OPERATION * 2, *(kind for kind in AFTER_ROUND if kind not in ("revoke", "admit"))
        kind = self.one(kinds)
        where = "project" if kind in OF_THE_PROJECT else self.one(self._places(kind, names))
        if kind in AT_OPERATION:
            return self._at_operation(kind, where)
        return Fault(kind, where, self.between(0, rounds - 1), round(0.1 + 1.4 * self._random.random(), 2))

    def _places(self, kind: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return where a kind may strike: at the server as often as at all nodes together."""
        return names if kind in OF_NODES else (*("server",) * len(names), *names)

    def _at_operation(self, kind: str, where: str) -> Fault:
        """Return a fault at an operation, whose number is as likely below the root of the largest as above."""
        if kind in ("kill", "torn") and self.chance(0.5):
            part = self.one(PARTS.get(where, PARTS[""]))
            return Fault(kind, where, int(exp(self._random.uniform(0, log(30)))), part)
        most = 400 if where == "server" else 60
        return Fault(kind, where, int(exp(self._random.uniform(0, log(most)))), self._amount(kind))

    def _amount(self, kind: str) -> float:
        if kind == "clock":
            return float(self.between(-30, 30))
        return float(self.between(1, 6)) if kind == "full" else 0.0

    def replies(self, name: str, rounds: int) -> list[Fault]:
        """Return the rounds in which a node spoils its replies, or none."""
        if not self.chance(0.4):
            return []
        return [Fault("reply", name, number, self.one(SPOILS)) for number in range(1, rounds + 1) if self.chance(0.6)]

    def roster(self, name: str, rounds: int) -> list[Fault]:
        """Return changes of who takes part."""
        gone = [Fault("revoke", name, self.between(0, rounds - 2))] if self.chance(0.15) else []
        return gone + ([Fault("admit", LATE, self.between(0, rounds - 2))] if self.chance(0.2) else [])
