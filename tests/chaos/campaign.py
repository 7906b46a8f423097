"""Many plans, a few at a time, each in a process of its own with a network of its own."""

import multiprocessing
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.chaos.network import enter_namespace
from tests.chaos.plan import make_plan
from tests.chaos.runner import LIMIT, ChaosRun

_CLEAN = multiprocessing.get_context("forkserver")
"""Makes forks of a process without threads: a fork of this one may wait for ever for a lock of a thread it lacks."""
_CLEAN.set_forkserver_preload(["tests.chaos.campaign"])


@dataclass
class Result:
    """How the run of a seed ended; `faults` are what does not hold, `skipped` what this machine cannot do.

    `met` counts the faults that the run met, by kind.
    """

    seed: int
    folder: Path
    faults: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"seed {self.seed} {'FAILED' if self.faults else 'ok'} {self.seconds:.1f} s: {make_plan(self.seed)}"]
        lines += [f"    skipped {skipped}" for skipped in self.skipped]
        lines += [f"    {fault}" for fault in self.faults]
        return "\n".join([*lines, *([f"    kept in {self.folder}"] if self.folder.exists() else [])])


def run_all(seeds: Iterable[int], jobs: int, folder: Path, keep: bool = False) -> Iterator[Result]:
    """Yield the result of each seed as its run ends, `jobs` at a time.

    Args:
        seeds: of the plans.
        jobs: runs at the same time.
        folder: for a folder of each run, of which those of failed runs are kept.
        keep: keep those of all.
    """
    left, running = list(seeds), dict[Connection, Any]()
    while left or running:
        while left and len(running) < jobs:
            seed = left.pop(0)
            ours, theirs = _CLEAN.Pipe(duplex=False)
            process = _CLEAN.Process(target=_run_one, args=(seed, folder / str(seed), theirs))
            process.start()
            theirs.close()
            running[ours] = process, Result(seed, folder / str(seed)), time.monotonic()
        for ours in [*wait([*running], 1.0), *_late(running)]:
            process, result, _ = running.pop(ours)
            yield _ended(ours, process, result, keep)


def _late(running: dict[Connection, Any]) -> list[Connection]:
    late = [ours for ours, (_, _, began) in running.items() if time.monotonic() - began > LIMIT + 60]
    for ours in late:
        running[ours][0].kill()
    return late


def _ended(ours: Connection, process: Any, result: Result, keep: bool) -> Result:
    try:
        result.faults, result.skipped, result.met, result.seconds = ours.recv()
    except EOFError:
        result.faults = ["the run's own process ended"]
    process.join()
    if not result.faults and not keep:
        shutil.rmtree(result.folder)
    return result


def _run_one(seed: int, folder: Path, results: Connection) -> None:
    began, skipped, met = time.monotonic(), list[str](), Counter[str]()
    try:
        folder.mkdir(parents=True)
        run = ChaosRun(make_plan(seed), folder, enter_namespace())
        faults, skipped, met = run.run(), run.skipped, run.met
        if faults:  # A small disk ends with this process.
            shutil.copytree(folder / "runs", folder / "runs-kept")
    except Exception:
        faults = [traceback.format_exc()]
    results.send((faults, skipped, met, time.monotonic() - began))
