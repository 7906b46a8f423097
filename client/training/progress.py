"""Progress of a training for the node's owner: a line now and then, which costs nothing between two."""

import logging
import time
from collections.abc import Callable

from torch import Tensor

from client.reports import report_step
from common.log_format import event
from common.protocol.assignment import Training

Watch = Callable[[int, Tensor], None]
"""Called after each step with its number, counted from 0, and its loss on the device."""
PERIOD = 5.0
"""Seconds between two lines; reading a loss waits for the device."""

log = logging.getLogger(__name__)


def ignore(step: int, loss: Tensor) -> None:
    """Do nothing."""


class TrainingLog:
    """Logs round, step, loss, learning rate and speed, and reports each step to the server.

    Args:
        training: what is trained.
        period: seconds between two lines.
        title: of a training that is in no round.
    """

    def __init__(self, training: Training, period: float = PERIOD, title: str = "") -> None:
        self._training, self._period = training, period
        self._place = {} if title else {"round": training.round}
        self._title = title or f"round {training.round}"
        self._began = self._said = time.monotonic()

    def __call__(self, step: int, loss: Tensor) -> None:
        """Log a step if enough time has passed, and the last one."""
        report_step(step + 1)
        now, rates = time.monotonic(), self._training.learning_rates
        if (now - self._said < self._period and step + 1 < len(rates)) or not log.isEnabledFor(logging.INFO):
            return
        self._said = now
        speed = (step + 1) / max(now - self._began, 1e-9)
        what = "%s: step %s of %s, loss %.3f, rate %.2e, %.2f steps/s"
        told = step + 1, len(rates), loss.item(), rates[step], speed
        names = "step", "steps", "loss", "rate", "steps_per_second"
        extra = event("step", **self._place, **dict(zip(names, told, strict=True)))
        log.info(what, self._title, *told, extra=extra)
