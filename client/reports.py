"""Reports of steps, from the code that works on a message to whatever carries them to the server.

A thread that only waited could report as well while the device hangs; so the report is made by what does the step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[int], None]
"""Called with the number of steps done."""


def _ignore(step: int) -> None:
    """Do nothing: in a simulation nobody waits for a report."""


_report: ContextVar[Report] = ContextVar("report", default=_ignore)


def report_step(step: int) -> None:
    """Report that `step` steps of the message that this thread works on are done."""
    _report.get()(step)


@contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Let this function take the reports of this thread while the block runs."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)
