"""The page of a running deployment, `report.html`, made after its rounds by a process of its own.

The server's memory and rounds stay as they are: the process has the lowest priority, there is one at a time, and all
together take at most a tenth of one core, so that of short rounds not every one has its page; the first rounds of a
server share one. A page that cannot be made is a line of the log.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import common
from common.log_format import event
from server.rounds.observer import RunObserver

LONGEST = 120.0
"""Seconds that a page may take; one of 2,000 rounds of 500 nodes takes ten."""
REST = 9.0
"""Times the processor time of a page, until the next is begun."""
FIRST = 5.0
"""Seconds that a server waits before its first page, as if it rested from one of a short run."""
_ROOT = str(Path(common.__file__).parents[1])

log = logging.getLogger(__name__)


class RunPages(RunObserver):
    """Makes the page after rounds: while one is made, others that become due are one.

    Args:
        run: folder of the run; one that has rounds gets its page without waiting for another.
    """

    def __init__(self, run: Path) -> None:
        self._run, self._changed = run, Condition()
        metrics = run / "metrics.jsonl"
        self._due, self._ended = metrics.is_file() and metrics.stat().st_size > 0, False
        self._pause, self._fault = FIRST, ""

    @contextmanager
    def making(self) -> Iterator[None]:
        """Make pages while the block runs, and wait for the last one."""
        thread = Thread(target=self._work, name="pages", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._tell(ended=True)
            thread.join(2 * LONGEST)  # one that is being made, and the last

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Have the page made."""
        self._tell(due=True)

    def _tell(self, due: bool = False, ended: bool = False) -> None:
        with self._changed:
            self._due, self._ended = self._due or due, self._ended or ended
            self._changed.notify()

    def _work(self) -> None:
        while self._is_due():
            before = _seconds_of_children()
            self._report(find_fault(self._run))
            with self._changed:
                self._changed.wait_for(lambda: self._ended, REST * (_seconds_of_children() - before))

    def _is_due(self) -> bool:
        """Wait until a page is due, and return whether one is: if not, the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._ended)
            self._changed.wait_for(lambda: self._ended, self._pause)
            self._pause = 0.0
            due, self._due = self._due, False
            return due

    def _report(self, fault: str) -> None:
        if fault and fault != self._fault:
            what = "report.html of %s is not made: %s; the run goes on"
            log.warning(what, self._run, fault, extra=event("report-failed", reason=fault))
        self._fault = fault


def _seconds_of_children() -> float:
    """Return the processor time of all processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def find_fault(run: Path) -> str:
    """Have the page of a run made by another process, and return why it was not; an empty text if it was.

    The process ends with this one, which holds its standard input open.
    """
    theirs, ours = os.pipe()
    command = [sys.executable, "-P", "-m", "common.report.run_page", str(run)]
    places = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    try:
        with closing(os.fdopen(ours, "wb")), closing(os.fdopen(theirs, "rb")) as stdin:
            ended = subprocess.run(
                command,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": places},
                timeout=LONGEST,
                check=False,
            )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    lines = ended.stderr.decode(errors="replace").strip().splitlines() or [f"status {ended.returncode}"]
    return lines[-1] if ended.returncode else ""
