"""Signals that end a command at once, with a line on stderr."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from common.log_format import last_line

_SHOW_CURSOR = "\x1b[?25h"
STOPS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
"""Signals that stop a command: Ctrl-C, a service manager or `kill`, a terminal that closed."""


@contextmanager
def exit_on_signal(*signals: signal.Signals, message: str, status: int | None = None) -> Iterator[None]:
    """Exit with this status, and this message on stderr, when one of these signals comes while the block runs.

    Without a status it is 128 plus the signal's number, as shells count. SIGHUP stays ignored where it is: by `nohup`.

    The process ends at once, not by an exception, which code in between could catch: the journal is safe at every
    moment, and workers may be in the middle of long computations.
    """

    def end(number: int, frame: FrameType | None) -> None:
        # Not print(): the signal may have come in the middle of one.
        line = last_line(message, "stopped", logging.INFO)
        before = "\n" if line == message else ""  # after the ^C of a terminal
        os.write(2, f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}{before}{line}\n".encode())
        os._exit(128 + number if status is None else status)

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handlers = {each: signal.signal(each, end) for each in signals if not (nohup and each is signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
