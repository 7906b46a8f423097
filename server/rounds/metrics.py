"""Metrics of one committed round, for people and programs: a line of metrics.jsonl."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from common.protocol.messages import RejectionReason


@dataclass
class ClientMetrics:
    """One client's part in one round.

    Args:
        predictions: that it announced: its rows, or for a language model their tokens with loss.
        skipped: rows that it left out, as they cannot be used, and which `rows` does not count.
        loss_before: of the global model that the round starts from, on the node's held-out rows.
        loss_after: the same of the global model that the round ends with.
        share: the client's weight in the sum; all shares of a round add up to 1.
        update: SHA-256 of the factors that it sent.
        norm: of the change from the factors that it started from, as received.
        clip: the factor by which the norm bound scaled its update.
        bytes_by_part: of `bytes_down`: `whole`, a global update for training in full; `change`, its growth; `factors`,
            those to train from; `head`, for a head in closed form; `evaluation`, what came with requests to evaluate.
        same_as: first other node, by name, that sent the same update, in whatever coordinates.
        status: `ok`, `refused` or `absent`; `reason` is the reason word for it.
    """

    name: str
    rank: int
    rows: int
    predictions: int = 0
    skipped: int = 0
    examples: int = 0
    tokens: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_by_part: dict[str, int] = field(default_factory=dict)
    share: float = 0.0
    update: str | None = None
    norm: float | None = None
    clip: float = 1.0
    same_as: str | None = None
    status: str = "ok"
    reason: RejectionReason | None = None

    def count_down(self, sent: Mapping[str, int]) -> None:
        """Count bytes that the client was sent, by part."""
        self.bytes_down += sum(sent.values())
        for part, size in sent.items():
            self.bytes_by_part[part] = self.bytes_by_part.get(part, 0) + size

    def reject(self, reason: RejectionReason) -> None:
        """Record that the client does not count in this round, and the reason."""
        self.status, self.reason = ("absent" if reason == "absent" else "refused"), reason
        self.share, self.update, self.norm, self.clip, self.same_as = 0.0, None, None, 1.0, None


class OwedBytes:
    """Bytes of nodes that had no record for them: they are told in the node's next one.

    These are of an evaluation before a round that it takes part in, and of attempts that were abandoned.
    """

    def __init__(self) -> None:
        self._down: dict[str, Counter[str]] = {}
        self._up: Counter[str] = Counter()

    def owe(self, name: str, down: Mapping[str, int], up: int = 0) -> None:
        """Note bytes to a node, by part, and from it."""
        self._down.setdefault(name, Counter()).update(down)
        self._up[name] += up

    def settle(self, clients: Iterable[ClientMetrics]) -> None:
        """Count what is owed to these records."""
        for client in clients:
            client.count_down(self._down.pop(client.name, {}))
            client.bytes_up += self._up.pop(client.name, 0)


@dataclass(frozen=True)
class Exactness:
    """Exactness of a round.

    Args:
        aggregation_error: relative error of the sum, see server/rounds/exactness.py; None where nothing was summed.
        residual: share of the global update that the broadcast leaves out, for now.
        dropped: what a cap on the rank has dropped for good in all rounds so far, as a share of the global update.
        rank_global: largest rank of a module of the broadcast.
        agreement: of the counted updates, from 0 to 1, see the same file; None where they were no more than noise.
    """

    aggregation_error: float | None = None
    residual: float = 0.0
    dropped: float = 0.0
    rank_global: int = 0
    agreement: float | None = None


@dataclass(frozen=True)
class TestScore:
    """Loss on test rows that the run's owner holds, if any, and the task's score by key."""

    loss: float | None = None
    measures: Mapping[str, float | None] = field(default_factory=dict)


def round_metrics(
    number: int,
    seconds: float,
    tested: TestScore,
    exactness: Exactness,
    clients: Iterable[ClientMetrics],
    told: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the fields of a line of metrics.jsonl; round 0 is before training.

    `told` has `head`, of a head in closed form, which also nodes outside the cohort are asked for, and `plan`, of ranks
    under a budget, where the round ends with one.
    """
    rows, head = [asdict(client) for client in clients], (told or {}).get("head", {})
    return {
        "round": number,
        "seconds": round(seconds, 3),
        "test_loss": tested.loss,
        "test_accuracy": None,
        **{f"test_{key}": value for key, value in tested.measures.items()},
        **asdict(exactness),
        "bytes_up": sum(row["bytes_up"] for row in rows) + head.get("others_bytes_up", 0),
        "bytes_down": sum(row["bytes_down"] for row in rows) + head.get("others_bytes_down", 0),
        "clients": rows,
    } | dict(told or {})
