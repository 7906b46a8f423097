"""The grid in this process against Flower's own engine (Ray): same apps and nodes, the docs recipe with eight clients.

Both have two cores: two workers here, two Ray actors there, of one thread each. The SuperLink that Flower needs runs
before the clock starts, and neither measures test rows. Fixed cost is the time of the whole command less that of its
rounds, as the server measures them.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median
from subprocess import PIPE

import psutil

from common.adapters.adapter import Adapter
from common.adapters.lowrank import stack, total_norm
from server.storage.journal import Journal
from simulations.bench.flower import ROOT, flower_engine
from simulations.bench.measure import Comparison, require
from simulations.simulate import simulate

RECIPE = ROOT / "simulations" / "recipes" / "docs.toml"
CLIENTS, ROUNDS, REPETITIONS = 8, 5, 3
LOCAL_STEPS = ["server.algorithm=increments", "train.steps=12", "train.lr=5e-3", "train.warmup=2"]
SETTINGS = [
    f"train.rounds={ROUNDS}",
    "data.test_rows=0",
    "server.codec=plain",
    "server.wire=float32",
    "server.evaluate_every=1",
    *LOCAL_STEPS,
]
"""Every message has its factors in full, since those of a round are trained once more, alone."""
PEER = "Flower's Ray simulation"
SAMPLING = 3.0
"""Seconds between two readings of memory, each of which costs each of Ray's processes some milliseconds."""
_COMMAND = """
import fedlora, sys  # like the command, with its settings of the process
from pathlib import Path
from simulations.bench.in_process import main
main(Path(sys.argv[1]))
"""


@dataclass(frozen=True)
class Run:
    """Cost of a run: seconds of the whole and of its rounds, bytes of memory; `again` as in in_process.py."""

    folder: Path
    seconds: float
    rounds: list[float]
    pss: int
    again: dict[str, list[float]]

    @property
    def overhead(self) -> float:
        """Seconds outside the rounds."""
        return self.seconds - sum(self.rounds)


def measure() -> list[Comparison]:
    """Measure seconds and bytes, medians over the runs."""
    with tempfile.TemporaryDirectory() as scratch:
        pairs = [(_ours(Path(scratch) / f"ours-{i}"), _theirs(Path(scratch) / f"ray-{i}")) for i in range(REPETITIONS)]
        ours, theirs = zip(*pairs, strict=True)
        gate = _gate(ours[0].folder, theirs[0].folder)
    rounds, pure = (median(s for run in ours for s in run.again[key][1:]) for key in ("rounds", "pure"))
    return [
        Comparison("fixed cost", *_medians(ours, theirs, "fixed"), "s", PEER, at_least=3, gate=gate),
        Comparison(
            "warm round", rounds, pure, "s", "the clients' training and evaluation alone", at_most=1.05, gate=gate
        ),
        Comparison("peak PSS", *_medians(ours, theirs, "pss"), "bytes", PEER, at_most=0.5, gate=gate),
        Comparison(f"{ROUNDS} rounds end to end", *_medians(ours, theirs, "seconds"), "s", PEER, gate=gate),
    ]


def _medians(ours: tuple[Run, ...], theirs: tuple[Run, ...], field: str) -> tuple[float, float]:
    return median(getattr(run, field) for run in ours), median(getattr(run, field) for run in theirs)


def _ours(folder: Path) -> Run:
    run = _prepare(folder)
    process = psutil.Popen([sys.executable, "-c", _COMMAND, str(run)], cwd=ROOT, stdout=PIPE, text=True)
    with _peak_pss(process) as peak:
        began = time.perf_counter()
        output, _ = process.communicate()
        seconds = time.perf_counter() - began
    again = json.loads(output.splitlines()[-1])
    return Run(run, seconds - sum(again["pure"]), _rounds(run), max(peak), again)


def _theirs(folder: Path) -> Run:
    run = _prepare(folder)
    with flower_engine(folder / "home", run / "nodes") as engine, _peak_pss(engine.process) as peak:
        began = time.perf_counter()
        engine.run(run, CLIENTS)
        seconds = time.perf_counter() - began
    return Run(run, seconds, _rounds(run), max(peak), {})


def _prepare(folder: Path) -> Path:
    with redirect_stderr(StringIO()):
        return simulate(RECIPE, SETTINGS, "run", folder, None, prepare_only=True)


def _rounds(run: Path) -> list[float]:
    return [json.loads(line)["seconds"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@contextmanager
def _peak_pss(root: psutil.Process) -> Iterator[list[int]]:
    """Sample the summed proportional set sizes of a process and all its descendants while the block runs."""
    sums, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLING):
            sums.append(sum(_pss(process) for process in (root, *root.children(recursive=True))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sums
    finally:
        ended.set()
        thread.join()


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has ended
        return 0


def _gate(ours: Path, theirs: Path) -> str:
    one, other = _update(ours), _update(theirs)
    gap = total_norm(stack([(1, one[name]), (-1, other[name])]) for name in one) / total_norm(one.values())
    return require(gap <= 1e-5, f"both end with the same update, to {gap:.0e}")


def _update(run: Path) -> Adapter:
    with Journal.open(run / "journal") as journal:
        return journal.last_state().parts["mass"]
