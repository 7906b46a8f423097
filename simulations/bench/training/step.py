"""One optimizer step of ours against one of PEFT's: seconds and peak memory, on the same base model and batches.

A step is forward, loss, backward, the gradient clipped to norm 1, AdamW and zero_grad, in float32 on one thread. Both
sides adapt the same modules at rank 8 with s = 1 and no dropout, start from the same A and B = 0, read the same stream
of batches, and go from an adapter in NumPy to an adapter in NumPy; the loss of PEFT's side is the one that Transformers
computes. Every call trains several steps, which share the cost of its setup.

Memory is measured twice: the growth of the process in one call, and the tensors alone. The first is what a machine
needs, but holes in the heap of the C library make it vary from run to run; the second is exact.
"""

from collections.abc import Callable
from functools import partial
from statistics import median

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Shapes
from common.protocol.assignment import Assignment
from simulations.bench.measure import Comparison, peak_growth, require, run_in_fresh_process, time_in_turn
from simulations.bench.training.bases import Case, assignment, attach, cases, one_thread
from simulations.bench.training.peft_engine import peft_engine
from simulations.bench.training.tensors import tensor_peak

StepTimes = Callable[[Assignment], Adapter]

PEER = "peft"
PROCESSES = 3
BRANCH = 32
TOLERANCE = 1e-5


def measure() -> list[Comparison]:
    """Measure time, memory and the cost of a global branch, for every available base model.

    Raises:
        GateError: the two sides train different adapters.
    """
    one_thread()
    return [comparison for case in cases() for comparison in compare(case)]


def compare(case: Case) -> list[Comparison]:
    """Return the comparisons on one base model.

    Raises:
        GateError: the two sides train different adapters.
    """
    shapes = attach(case.base())[1].shapes
    start, ours, theirs = assignment(shapes), case.engine(), peft_engine(case)
    gate = same_update(ours, theirs, start, assignment(shapes, draw=1))
    works = {"ours": partial(ours, start), "theirs": partial(theirs, start)}
    tensors = {side: float(tensor_peak(work)) for side, work in works.items()}
    works["branch"] = partial(ours, assignment(shapes, BRANCH))
    seconds = {name: each / case.steps for name, each in time_in_turn(works, case.repetitions).items()}
    bounded = (("step", seconds, "s", 1.05), ("peak of memory", _peaks(case, shapes), "bytes", 1.0))
    return [
        *(
            Comparison(f"{case.name}: {name}", each["ours"], each["theirs"], unit, PEER, at_most=bound, gate=gate)
            for name, each, unit, bound in (*bounded, ("peak of tensors", tensors, "bytes", 1.0))
        ),
        _branch(case, seconds),
    ]


def _branch(case: Case, seconds: dict[str, float]) -> Comparison:
    figure = f"{case.name}: step with a global branch of rank {BRANCH}"
    return Comparison(figure, seconds["branch"], seconds["ours"], "s", "ours without it")


def same_update(ours: StepTimes, theirs: StepTimes, start: Assignment, other: Assignment) -> str:
    """Check that both sides train the same dW from `start`, and return the gate.

    Raises:
        GateError: they do not, or the check is too weak: ours from `other`, where A is another draw, passes it too.
    """
    expected = theirs(start)
    gap, control = (distance(ours(each), expected) for each in (start, other))
    return require(
        gap <= TOLERANCE < control / 100,
        f"dW of both sides within {gap:.0e} (at most {TOLERANCE:.0e}); from another A {control:.0e} apart",
    )


def distance(one: Adapter, other: Adapter) -> float:
    """Return ||dW - dW'|| / ||dW'||, Frobenius, over all modules."""
    gap = lowrank.total_norm(lowrank.stack([(1, one[name]), (-1, other[name])]) for name in other)
    return gap / lowrank.total_norm(other.values())


def _peaks(case: Case, shapes: Shapes) -> dict[str, float]:
    """Return the median growth of memory in a call, in bytes, each call in a fresh process."""
    engines = {"ours": Case.engine, "theirs": peft_engine}
    rounds = [
        {side: run_in_fresh_process(_peak, e, case, shapes) for side, e in engines.items()} for _ in range(PROCESSES)
    ]
    return {side: median(peaks[side] for peaks in rounds) for side in engines}


def _peak(engine: Callable[[Case], StepTimes], case: Case, shapes: Shapes) -> int:
    one_thread()
    steps, start = engine(case), assignment(shapes)
    engine(case.small())(start)  # Imports on first use must not count as part of a step.
    return peak_growth(partial(steps, start))
