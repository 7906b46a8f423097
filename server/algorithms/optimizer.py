"""The server's optimizer: one step of Adam or SGD on shared factors along a summed gradient, and its learning rate.

FedOpt (arXiv 2003.00295, algorithm 2) with the gradient itself for the pseudo-gradient: FedSGD (arXiv 1602.05629).
Adam is arXiv 1412.6980, algorithm 1, as PyTorch has it; all of it is float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi, sqrt

import numpy as np

from common.adapters.adapter import Array
from common.settings.recipe import Steps

EPSILON = 1e-8
Moments = tuple[Array, Array]
"""The two moments of Adam."""


@dataclass(frozen=True)
class Optimizer:
    """Adam or SGD.

    Args:
        betas: decay of Adam's two moments; None for SGD, which has none.
    """

    betas: tuple[float, float] | None

    def step(self, gradient: Array, moments: Moments, number: int, rate: float) -> tuple[Array, Moments]:
        """Return what a parameter changes by, and its next moments.

        Args:
            gradient: of the parameter, in float64.
            moments: those before, of the same shape.
            number: of the step, counted from 1.
            rate: learning rate.
        """
        if self.betas is None:
            return -rate * gradient, moments
        one, two = self.betas
        first, second = one * moments[0] + (1 - one) * gradient, two * moments[1] + (1 - two) * gradient**2
        root = np.sqrt(second) / sqrt(1 - two**number) + EPSILON
        return -rate / (1 - one**number) * first / root, (first, second)


def clip_factor(gradients: Iterable[Array], largest: float) -> float:
    """Return the factor that bounds the norm over all arrays; 1 if `largest` is 0, or is not reached."""
    norm = sqrt(sum(float(np.sum(gradient**2)) for gradient in gradients))
    return largest / norm if largest and norm > largest else 1.0


def scheduled_rate(train: Steps, done: float, warm: int) -> float:
    """Return the learning rate of a step.

    Args:
        train: highest rate, schedule and warm-up.
        done: share of the run's steps that are done.
        warm: steps since the warm-up began.
    """
    return train.lr * _decay(train.schedule, done) * min(1.0, (warm + 1) / (train.warmup + 1))


def _decay(schedule: str, done: float) -> float:
    if schedule == "cosine":
        return 0.5 * (1 + cos(pi * done))
    return 1 - done if schedule == "linear" else 1.0
