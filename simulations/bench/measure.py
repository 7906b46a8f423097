"""Tools of the benches: comparisons, gates, medians of interleaved runs, and peaks of memory in fresh processes."""

import gc
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, ParamSpec, TypeVar

from simulations.workers import end_with_parent

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class GateError(Exception):
    """The two sides did not come to the same result, so their speeds are not comparable."""


@dataclass(frozen=True)
class Comparison:
    """One figure of ours and of a peer.

    Args:
        figure: name of the figure.
        ours: our value.
        theirs: the peer's value, in the same unit.
        unit: of both.
        peer: name of the peer.
        at_least: the bound on theirs / ours.
        at_most: the bound on ours / theirs.
        gate: the check of the result that held in this run.
    """

    figure: str
    ours: float
    theirs: float
    unit: str
    peer: str
    at_least: float | None = None
    at_most: float | None = None
    gate: str = ""

    @property
    def ratio(self) -> float:
        """Theirs / ours, or ours / theirs if that is bounded from above."""
        return self.theirs / self.ours if self.at_most is None else self.ours / self.theirs

    @property
    def holds(self) -> bool:
        """The ratio is within its bound; a figure without one always is."""
        return (self.at_least or 0) <= self.ratio and (self.at_most is None or self.ratio <= self.at_most)


def require(holds: bool, gate: str) -> str:
    """Return the gate if it holds.

    Raises:
        GateError: it does not.
    """
    if not holds:
        raise GateError(f"the results differ: {gate}")
    return gate


def time_in_turn(works: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Return the median seconds of each work, as `seconds_in_turn` measures them."""
    return {name: median(values) for name, values in seconds_in_turn(works, repetitions).items()}


def seconds_in_turn(works: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each repetition of each work, after one unmeasured; in turn, so that a slowdown affects
    all."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions + 1):
        for name, work in works.items():
            gc.collect()
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def run_in_fresh_process(
    work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Return the result of work done in a new Python process, whose memory nothing else has touched."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        return pool.submit(work, *args, **kwargs).result()


def peak_growth(work: Callable[[], Any]) -> int:
    """Return the most bytes by which the resident memory of this process grew during work (Linux)."""
    gc.collect()
    before = _status("VmRSS")
    return peak(work) - before


def peak(work: Callable[[], Any]) -> int:
    """Return the peak resident memory of this process during work, in bytes (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    work()
    return _status("VmHWM")


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
