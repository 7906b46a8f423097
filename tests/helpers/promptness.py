"""Seconds of a process, without those in which a machine that is busy with other tests lets it wait for a processor."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path


def seconds_without_load(process: subprocess.Popen[str], began: float) -> float:
    """Return the seconds since `began` (of `time.monotonic`) in which the process's main thread ran or slept.

    Where the system does not tell how long it waited for a processor (outside Linux), nothing is taken off.
    """
    queued = 0
    with suppress(OSError):
        queued = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1])  # nanoseconds
    return time.monotonic() - began - queued / 1e9
