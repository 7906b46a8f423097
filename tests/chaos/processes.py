"""Processes of a run: forks of this one, in which everything is imported, with one fault each."""

import datetime as clock
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import client.network.link
import fedlora
import server.launch
import server.rounds.quorum
import server.rounds.run_settings
from tests.chaos import files
from tests.chaos.plan import Fault

_FORK = multiprocessing.get_context("fork")
Job = Callable[[], object]


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
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    _hurry()
    if fault:
        files.FileOperations(folder, fault.at, _act(fault), _more(fault)).install()
    job()


def _act(fault: Fault) -> files.Act:
    def jump(name: str) -> None:
        _shift_clock(float(fault.value))

    return {"kill": files.kill, "torn": files.tear, "full": _said(files.refuse), "clock": _said(jump)}[fault.kind]


def _said(act: files.Act) -> files.Act:
    def said(name: str) -> None:
        os.write(2, f"chaos: {act.__name__} at {name}\n".encode())
        act(name)

    return said


def _more(fault: Fault) -> int:
    return int(fault.value) if fault.kind == "full" else 0


def _hurry() -> None:
    """Wait less than people and networks need: pauses of seconds become tenths."""
    server.rounds.quorum.PAUSE = 0.1
    server.rounds.run_settings.SETTLE = 3.0
    farewell = server.launch.await_farewell
    server.launch.await_farewell = lambda *args: farewell(*args, patience=5.0)
    client.network.link._FIRST, client.network.link._LONGEST = 0.05, 0.5


def _shift_clock(hours: float) -> None:
    """Let this process's clock jump; monotonic time goes on."""
    offset, real_time, real = 3600 * hours, time.time, clock.datetime

    class Shifted(real):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: clock.tzinfo | None = None) -> clock.datetime:
            return real.now(tz) + clock.timedelta(seconds=offset)

    time.time = lambda: real_time() + offset
    for module in [*sys.modules.values()]:
        if getattr(module, "datetime", None) is real and module is not clock:
            module.datetime = Shifted  # type: ignore[attr-defined]
