"""Metrics of one committed round, for people and programs: a line of metrics.jsonl."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from server.metrics.clients import ClientMetrics


@dataclass(frozen=True)
class Exactness:
    """Exactness of a round.

    Args:
        aggregation_error: relative error of the sum, see server/metrics/exactness.py; None where nothing was summed.
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
