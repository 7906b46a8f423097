"""Learning rates: one schedule over all rounds, warmed up in each since B and the optimizer start anew."""

from math import cos, pi

from common.settings import Train


def learning_rates(train: Train, number: int) -> tuple[float, ...]:
    """One rate for each optimizer step of round `number`, counted from 1."""
    total = train.rounds * train.steps
    first = (number - 1) * train.steps
    return tuple(
        train.lr * _decay(train.schedule, (first + step) / total) * min(1.0, (step + 1) / (train.warmup + 1))
        for step in range(train.steps)
    )


def _decay(schedule: str, done: float) -> float:
    if schedule == "cosine":
        return 0.5 * (1 + cos(pi * done))
    return 1 - done if schedule == "linear" else 1.0
