"""Processes of a run: forks of this one, in which everything is imported, with one fault each."""

import ctypes
import datetime as clock
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import client.network.link
import fedlora
import server.farewell.farewell
import server.launch
import server.rounds.quorum
import server.rounds.run_settings
from tests.chaos import files
from tests.chaos.plan import Fault

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG."""
_FORK = multiprocessing.get_context("fork")
Job = Callable[[], object]
MET = "chaos: "
"""Begins a line of a log that says that a fault was met."""
PAUSE = 0.2
"""Seconds before a process is started again."""


def start(job: Job, log: Path, folder: Path, fault: Fault | None) -> BaseProcess:
    """Fork a process that does a job, with its output in `log`, and a fault at an operation on files in `folder`."""
    process = _FORK.Process(target=_work, args=(job, log, folder, fault), daemon=True)
    process.start()
    return process


def serve(file: Path, *options: str) -> None:
    """Be `fedlora server FILE`."""
    sys.argv = ["fedlora", "server", str(file), *options]
    fedlora.main()


def _work(job: Job, log: Path, folder: Path, fault: Fault | None) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    _hurry()
    if fault:
        files.FileOperations(folder, fault.at, _act(fault), _more(fault), _part(fault)).install()
    job()


def _act(fault: Fault) -> files.Act:
    def jump(name: str) -> None:
        _shift_clock(float(fault.value))

    act = {"kill": files.kill, "torn": files.tear, "full": files.refuse, "clock": jump}[fault.kind]

    def said(name: str) -> None:
        say_met(f"{fault} {name}")
        act(name)

    return said


def say_met(what: str) -> None:
    """Write into the log that a fault was met."""
    os.write(2, f"{MET}{what}\n".encode())


def _more(fault: Fault) -> int:
    return int(fault.value) if fault.kind == "full" else 0


def _part(fault: Fault) -> str:
    return fault.value if isinstance(fault.value, str) else ""


def _hurry() -> None:
    """Wait less than people and networks need: pauses of seconds become tenths."""
    server.rounds.quorum.PAUSE = 0.1
    server.rounds.run_settings.SETTLE = 3.0
    wait = server.farewell.farewell.Farewell.wait_for
    server.farewell.farewell.Farewell.wait_for = lambda self, entry: wait(self, entry, patience=5.0)
    client.network.link._FIRST, client.network.link._LONGEST = 0.05, 0.5


SET_RIGHT = 10.0
"""Seconds after which a clock that jumped is right again: until then a node rightly trusts no renewed server."""


def _shift_clock(hours: float) -> None:
    """Let this process's clock jump, until it is set right; monotonic time goes on."""
    end, real_time, real = time.monotonic() + SET_RIGHT, time.time, clock.datetime

    def offset() -> float:
        return 3600 * hours if time.monotonic() < end else 0.0

    class Shifted(real):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: clock.tzinfo | None = None) -> clock.datetime:
            return real.now(tz) + clock.timedelta(seconds=offset())

    time.time = lambda: real_time() + offset()
    for module in [*sys.modules.values()]:
        if getattr(module, "datetime", None) is real and module is not clock:
            module.datetime = Shifted  # type: ignore[attr-defined]


@dataclass
class Place:
    """A process that is started again, with the next of its faults each time."""

    name: str
    job: Callable[[], object]
    log: Path
    folder: Path
    faults: list[Fault]
    process: BaseProcess | None = None
    starts: int = 0
    rest: float = 0.0
    over: bool = False
    ends: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Start the process."""
        self.starts += 1
        fault = self.faults.pop(0) if self.faults else None
        self.process = start(self.job, self.log, self.folder, fault)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there."""
        if self.process and self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, number)

    def ended(self) -> int | None:
        """Return the exit status once, when the process has ended."""
        if self.process is None or self.process.exitcode is None:
            return None
        status, self.process = self.process.exitcode, None
        self.ends.append(status)
        self.rest = time.monotonic() + PAUSE
        return status
