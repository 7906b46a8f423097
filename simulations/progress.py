"""Progress reports of a run: one live line on a terminal, one plain line per round elsewhere.

Plain lines go to stdout, so that `fedlora simulate RECIPE 2>&1 | tee run.log` keeps them; the caller prints the last
line, `run: PATH`, after them. The live line goes to stderr and leaves stdout alone. Both reports have the same methods,
which the server's loop calls.
"""

import sys
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from common.report.formats import decimal, duration, small
from common.report.records import MEASURES, Record, held_out
from server.monitoring.console import tell_head, tell_plan, tell_start
from server.rounds.observer import RunObserver


def progress(console: Console | None = None) -> "LiveLine | PlainLines":
    """Return a live line if the console (default: stderr) is a terminal that can redraw, else plain lines on stdout."""
    console = console or Console(stderr=True)
    return LiveLine(console) if console.is_interactive else PlainLines(sys.stdout)


class PlainLines(RunObserver):
    """One line for the start and one for each committed round, flushed at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._clock = _Clock(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is nothing to close."""

    def on_run_started(self, rounds: int, done: int) -> None:
        """Note that the run starts, or resumes after the rounds that are done."""
        self._clock = _Clock(rounds)
        self._say(f"{rounds} rounds, {done} of them done" if done else f"{rounds} round{'s' * (rounds != 1)}")

    def on_round_committed(self, record: Record) -> None:
        """Print the round's numbers, time taken and time left."""
        rounds = self._clock.rounds
        parts = [f"round {record['round']:>{len(str(rounds))}}/{rounds}", *_scores(record), *_exactness(record)]
        parts += [duration(record["seconds"]), *self._clock.remaining(record), *_rejections(record)]
        self._say("  ".join(parts))
        if start := tell_start(record):
            self._say(start)
        if plan := record.get("plan"):
            self._say(tell_plan(plan))
        if head := record.get("head"):
            self._say(tell_head(head))

    def _say(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class LiveLine(RunObserver):
    """One line, redrawn: bar of rounds, clients done, last scores, time taken and time left."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[now]}"),
            TextColumn("{task.fields[scores]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
            redirect_stdout=False,
        )
        self._task = self._bar.add_task("starting", total=None, now="", scores="", left="")
        self._clock = _Clock(0)
        self._clients = self._done = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_run_started(self, rounds: int, done: int) -> None:
        """Note that the run starts, or resumes after the rounds that are done."""
        self._clock = _Clock(rounds)
        self._bar.update(self._task, total=rounds, completed=done)

    def on_round_started(self, number: int, clients: int) -> None:
        """Show that the round's cohort starts to train."""
        self._clients, self._done = clients, 0
        self._show(description=f"round {number}/{self._clock.rounds}", now=f"0/{clients} clients")

    def on_client_done(self, name: str, status: str) -> None:
        """Count a client that has answered, or is given up."""
        self._done += 1
        self._show(now=f"{self._done}/{self._clients} clients")

    def on_evaluating(self, count: int) -> None:
        """Show that the global model is being measured."""
        self._show(now="evaluating")

    def on_round_committed(self, record: Record) -> None:
        """Show the last scores on the line, and print rejections above it."""
        scores = {"scores": " ".join(found)} if (found := _scores(record)) else {}
        self._show(completed=record["round"], now="", left=" ".join(self._clock.remaining(record)), **scores)
        if start := tell_start(record):
            self._bar.console.print(start, markup=False, highlight=False)
        for rejection in _rejections(record):
            self._bar.console.print(f"round {record['round']}: {rejection}", markup=False, highlight=False)

    def _show(self, **fields: Any) -> None:
        self._bar.update(self._task, **fields)


class _Clock:
    """Estimates the time left from the mean of the rounds trained since the start."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self._seconds: list[float] = []

    def remaining(self, record: Record) -> list[str]:
        """Return `left 2 min 08 s` after a round of training; nothing after round 0 and after the last."""
        remaining = self.rounds - record["round"]
        if not record["round"] or not remaining:
            return []
        self._seconds.append(record["seconds"])
        return [f"left {duration(remaining * sum(self._seconds) / len(self._seconds))}"]


def _scores(record: Record) -> list[str]:
    own = held_out(record) if record["test_loss"] is None else None
    measures = ((key, record.get(f"test_{key}")) for key in MEASURES)
    named = (("loss", record["test_loss"]), ("held-out loss", own), *measures)
    return [f"{name} {decimal(value)}" for name, value in named if value is not None]


def _exactness(record: Record) -> list[str]:
    """Return aggregation error and agreement, and how many of the asked clients are in the sum; nothing in round 0."""
    if not record["round"]:
        return []
    asked = [client["status"] for client in record["clients"] if client["status"] != "idle"]
    error = record["aggregation_error"]
    exact = [] if error is None else [f"aggregation error {small(error)}"]
    exact += [] if record["agreement"] is None else [f"agreement {record['agreement']:.2f}"]
    return [*exact, f"{asked.count('ok')}/{len(asked)} clients"]


def _rejections(record: Record) -> list[str]:
    rejected = [client for client in record["clients"] if client["status"] == "refused"]
    return [f"{client['name']} rejected: {client['reason'] or 'no reason given'}" for client in rejected]
