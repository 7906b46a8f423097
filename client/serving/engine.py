"""One thread that computes what all requests ask, in common batches; a bounded queue before it."""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from client.serving.jobs import Failed, Job
from client.serving.limits import Limits
from common.errors import FedloraError
from common.log_format import event

log = logging.getLogger(__name__)


class BusyError(FedloraError):
    """Too many texts wait."""


class Model(Protocol):
    """What computes: a decoder or a classifier."""

    @property
    def jobs(self) -> list[Job]:
        """Jobs in the batch."""

    def has_room(self, jobs: Sequence[Job]) -> bool:
        """Return whether these jobs fit into the batch."""

    def admit(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the batch, and compute the first event of each."""

    def step(self) -> None:
        """Compute the next event of each job in the batch."""

    def clear(self) -> None:
        """Forget all jobs."""


class Engine:
    """The queue and its thread. A batch that fails costs its own jobs, no others."""

    def __init__(self, model: Model, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._waiting: deque[Job] = deque()
        self._changed, self._stopping = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its next step; jobs that are not done fail."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let all of these jobs wait for a place in the batch, or none of them.

        Raises:
            BusyError: too many would wait.
        """
        with self._changed:
            self._waiting = deque(job for job in self._waiting if not job.cancelled)
            if len(self._waiting) + len(jobs) > self._limits.waiting:
                raise BusyError(f"{len(self._waiting)} texts wait, of at most {self._limits.waiting}; try again later")
            self._waiting.extend(jobs)
            self._changed.notify()

    def _run(self) -> None:
        while not self._stopping:
            if new := self._take():
                self._compute(new)
            if self._model.jobs:
                self._compute(())
        _fail([*self._model.jobs, *self._waiting], "the server stops")

    def _take(self) -> list[Job]:
        """Return the first jobs that fit into the batch; wait for one if there is nothing else to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._waiting or self._model.jobs)
            new: list[Job] = []
            while self._waiting and not self._stopping and self._fits(new):
                job = self._waiting.popleft()
                new += [] if job.cancelled else [job]
            return new

    def _fits(self, new: Sequence[Job]) -> bool:
        return self._model.has_room([*new, self._waiting[0]])

    def _compute(self, new: Sequence[Job]) -> None:
        before = list(self._model.jobs)
        try:
            self._model.admit(new) if new else self._model.step()
        except Exception as error:  # Out of memory, for one; the thread goes on and serves others.
            log.error("a batch failed: %s", error, extra=event("batch-failed", reason=str(error)))
            whole = not new or self._model.jobs != before
            if whole:
                self._model.clear()
            _fail([*before, *new] if whole else new, "the computation failed; the server's log has the reason")


def _fail(jobs: Sequence[Job], reason: str) -> None:
    for job in jobs:
        job.deliver(Failed(reason))
