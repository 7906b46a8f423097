"""Ctrl-C during a run: a line that says how to go on, and the process is gone."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STATUS = 130
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def ends_on_interrupt(message: str) -> Iterator[None]:
    """While the block runs, SIGINT ends the process with status 130 and this message on stderr.

    At once, not by an exception, which code on its way could catch: the journal is safe at every moment, and workers
    may be in the middle of long computations.
    """

    def end(number: int, frame: FrameType | None) -> None:
        # Not print(): the signal may have come in the middle of one.
        os.write(2, f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}\n{message}\n".encode())
        os._exit(_STATUS)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
