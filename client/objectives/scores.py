"""Scores of a task beside the loss, from sums over predictions: sums of parts of the rows add up to those of all."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Sums = NDArray[np.float64]


class Metric(Protocol):
    """A score. `key` is its name in `common.report.records.MEASURES`."""

    @property
    def key(self) -> str:
        """The score's name."""

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Return what the predictions of a batch add to the sums.

        Args:
            outputs: of the objective, as it measured the batch.
            targets: of the batch.
        """

    def value(self, sums: Sums) -> float | None:
        """Return the score of the predictions behind some sums; None where it is not defined."""


@dataclass(frozen=True)
class Accuracy:
    """The share of predictions that are right; the outputs are logits (n, C), the targets places (n,)."""

    key: str = "accuracy"

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Return the numbers of right predictions and of all (2,)."""
        return np.array([(outputs.argmax(-1) == targets).sum().item(), len(outputs)], np.float64)

    def value(self, sums: Sums) -> float | None:
        """Return the share."""
        return float(sums[0] / sums[1])


@dataclass(frozen=True)
class MicroF1:
    """2 TP / (2 TP + FP + FN) over all labels of all rows; a label is predicted where its logit is above 0."""

    key: str = "f1"

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Return the numbers of labels that are predicted and right, and of those that are wrong or missed (2,)."""
        found, there = outputs > 0, targets > 0
        return np.array([(found & there).sum().item(), (found != there).sum().item()], np.float64)

    def value(self, sums: Sums) -> float | None:
        """Return the score; None where no row has a label and none is predicted."""
        right, wrong = sums.tolist()
        return 2 * right / (2 * right + wrong) if right + wrong else None


@dataclass(frozen=True)
class R2:
    """1 - sum of squared errors / sum of squared differences from the mean, the mean over the outputs (n, C)."""

    key: str = "r2"

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Return n, and the sums of y, of its squares and of the squared errors of each output (4, C), in float64."""
        y, found = targets.cpu().double().numpy(), outputs.cpu().double().numpy()
        return np.stack([np.full(y.shape[1], len(y)), y.sum(0), (y * y).sum(0), ((y - found) ** 2).sum(0)])

    def value(self, sums: Sums) -> float | None:
        """Return the score; None where the numbers of an output are all the same."""
        count, total, squares, errors = sums
        spread = squares - total * total / count
        if (spread <= 1e-12 * squares).any():
            return None
        return float(np.mean(1 - errors / spread))
