"""Progress of a long reading of rows: a bar on a terminal, a line of the log now and then elsewhere."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from common.log_format import event

_PATIENCE = 2.0
"""Seconds of reading before a bar is drawn."""
_BETWEEN = 30.0
"""Seconds between two lines of the log."""

log = logging.getLogger(__name__)


@contextmanager
def watching(file: Path, console: Console | None = None) -> Iterator[Callable[[float], None]]:
    """Return what is to be told the share of the file that is read, from 0 to 1, while the block runs.

    The bar is drawn only by the main thread: another one may work beside a display.

    Args:
        file: that is read.
        console: standard error if not given.
    """
    console = console or Console(stderr=True)
    if console.is_interactive and threading.current_thread() is threading.main_thread():
        yield from _bar(file, console)
    else:
        yield _lines(file)


def _bar(file: Path, console: Console) -> Iterator[Callable[[float], None]]:
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=False)
    task, begin = bar.add_task(f"reading {file.name}", total=1.0), time.monotonic()

    def show(share: float) -> None:
        bar.update(task, completed=share)
        if not bar.live.is_started and time.monotonic() - begin > _PATIENCE:
            bar.start()

    try:
        yield show
    finally:
        bar.stop()


def _lines(file: Path) -> Callable[[float], None]:
    last = time.monotonic()

    def tell(share: float) -> None:
        nonlocal last
        if time.monotonic() - last > _BETWEEN:
            last = time.monotonic()
            log.info("reading %s: %.0f %%", file, 100 * share, extra=event("reading", share=round(share, 2)))

    return tell
