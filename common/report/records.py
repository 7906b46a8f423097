"""The lines of `metrics.jsonl`: one record per committed round, round 0 before training."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import JournalError
from common.plain_files import open_plain
from common.report.formats import decimal, percent
from common.settings.tasks import MULTI, REGRESSION, SINGLE

Record = Mapping[str, Any]
"""One committed round; server and nodes measure `loss` in nats per token, or per row for classification.

Where rows have numbers to learn, it is the mean squared error.
"""

EXACT = 1e-6
"""The largest aggregation error that counts as exact."""


@dataclass(frozen=True)
class Measure:
    """A task's score beside the loss, higher is better; a record has it as `test_KEY`.

    Args:
        key: in records and files.
        name: for people, within a sentence.
        meaning: for an axis.
        share: it is a share from 0 to 1.
        loss: unit of the loss where a run has this score.
    """

    key: str
    name: str
    meaning: str
    share: bool = True
    loss: str = "nats"

    @property
    def heading(self) -> str:
        """The name at the beginning of a line."""
        return self.name[:1].upper() + self.name[1:]

    def shown(self, value: float | None) -> str:
        """Return a score as text: a share in percent."""
        return percent(value) if self.share else decimal(value)


ACCURACY = Measure("accuracy", "accuracy", "share of test rows correct")
MEASURES: Mapping[str, Measure] = {
    each.key: each
    for each in (
        ACCURACY,
        Measure("f1", "micro-F1", "2 TP / (2 TP + FP + FN) over all labels"),
        Measure("r2", "R²", "share of the variance explained", share=False, loss="mean squared error"),
    )
}
"""Scores by key."""
BY_PROBLEM: Mapping[str, Measure] = {SINGLE: ACCURACY, MULTI: MEASURES["f1"], REGRESSION: MEASURES["r2"]}
"""Scores by what a row has."""


def measure_of(records: Sequence[Record]) -> Measure:
    """Return the score that a run's records have; accuracy, or none, is in the records of every run."""
    last = records[-1] if records else {}
    return next((each for key, each in MEASURES.items() if each != ACCURACY and f"test_{key}" in last), ACCURACY)


_EARLIER_KEYS = {"receipt": "aggregation_error"}
"""Keys that the first release wrote, and their current names."""
_LATER_KEYS = {"agreement": None}
"""Keys that earlier releases did not write, and what they read as."""


def with_current_keys(record: Record) -> dict[str, Any]:
    """Return a line of metrics.jsonl, which an older release may have written, under the keys of this one."""
    renamed = {_EARLIER_KEYS.get(key, key): value for key, value in record.items()}
    return renamed | {key: value for key, value in _LATER_KEYS.items() if key not in renamed}


def read_records(run: Path) -> Iterator[Record]:
    """Yield every committed round of the run folder, in order; NaN and infinity read as missing.

    One record is in memory at a time. A last line without its end is still being written, and does not count.

    Raises:
        JournalError: `metrics.jsonl` is missing, empty, or contains a line that is not a record.
    """
    path, number = run / "metrics.jsonl", 0
    try:
        with open_plain(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith(b"\n"):
                    yield _record(line, f"{path}:{number}")
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}; give the folder of a run") from None
    if not number:
        raise JournalError(f"{path} is empty: no round was committed; run it again with --resume {run}")


def _record(line: bytes, place: str) -> Record:
    try:
        record = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{place} is not JSON: {error}; check the run with `fedlora verify`") from None
    if not isinstance(record, dict) or "round" not in record:
        raise JournalError(f'{place} does not record a round: it has no "round"; check the run with `fedlora verify`')
    return with_current_keys(record)


def exp(nats: float) -> float:
    """Return exp(loss), the perplexity of a language model, capped below the largest float64."""
    return math.exp(min(nats, 700.0))


def held_out(record: Record) -> float | None:
    """Return the clients' mean loss on their own held-out rows after the round, or None if no client measured it."""
    losses = [client["loss_after"] for client in record["clients"] if client["loss_after"] is not None]
    return sum(losses) / len(losses) if losses else None
