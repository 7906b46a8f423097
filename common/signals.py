"""Signals that end a command at once, with a line on stderr."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def exit_on_signal(*signals: signal.Signals, status: int, message: str) -> Iterator[None]:
    """Exit with this status, and this message on stderr, when one of these signals comes while the block runs.

    The process ends at once, not by an exception, which code in between could catch: the journal is safe at every
    moment, and workers may be in the middle of long computations.
    """

    def end(number: int, frame: FrameType | None) -> None:
        # Not print(): the signal may have come in the middle of one.
        os.write(2, f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}\n{message}\n".encode())
        os._exit(status)

    before = {each: signal.signal(each, end) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
