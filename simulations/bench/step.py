"""One optimizer step of ours against one of PEFT's: seconds and peak memory, on the same base model and batches.

A step is forward, loss, backward, the gradient clipped to norm 1, AdamW and zero_grad, in float32 on one thread. Both
sides adapt the same modules at rank 8 with s = 1 and no dropout, start from the same A and B = 0, read the same stream
of batches, and go from an adapter in NumPy to an adapter in NumPy; the loss of PEFT's side is the one that Transformers
computes. Every call trains several steps, so what a call sets up is shared among them.
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from client.data import Examples, batches
from client.model import find_targets
from common import lowrank
from common.adapter import Adapter, Factors, Shapes
from common.assignment import Assignment
from simulations.bench.bases import NODE, RANK, Case, assignment, attach, cases, one_thread
from simulations.bench.measure import Comparison, in_fresh_process, interleaved, peak_growth, require

PEER = "peft"
PROCESSES = 3
BRANCH = 32
TOLERANCE = 1e-5

Steps = Callable[[Assignment], Adapter]


def measure() -> list[Comparison]:
    """Time, memory and the cost of a global branch, for every base model at hand.

    Raises:
        GateError: the two sides train other adapters.
    """
    one_thread()
    return [comparison for case in cases() for comparison in compare(case)]


def compare(case: Case) -> list[Comparison]:
    """The comparisons on one base model.

    Raises:
        GateError: the two sides train other adapters.
    """
    shapes = attach(case.base())[1].shapes
    start, beside = assignment(shapes), assignment(shapes, BRANCH)
    ours, theirs = case.engine(), peft_engine(case)
    gate = same_update(ours, theirs, start, assignment(shapes, draw=1))
    works = {"ours": lambda: ours(start), "theirs": lambda: theirs(start), "branch": lambda: ours(beside)}
    seconds = {name: each / case.steps for name, each in interleaved(works, case.repetitions).items()}
    peaks = _peaks(case, shapes)
    return [
        Comparison(f"{case.name}: step", seconds["ours"], seconds["theirs"], "s", PEER, at_most=1.05, gate=gate),
        Comparison(f"{case.name}: peak", peaks[0], peaks[1], "bytes", PEER, at_most=1.0, gate=gate),
        Comparison(
            f"{case.name}: step with a global branch of rank {BRANCH}",
            seconds["branch"],
            seconds["ours"],
            "s",
            "ours without it",
        ),
    ]


def same_update(ours: Steps, theirs: Steps, start: Assignment, other: Assignment) -> str:
    """The gate that both sides train the same dW from `start`.

    Raises:
        GateError: they don't, or the check cannot tell: ours from `other`, where A is another draw, passes it too.
    """
    expected = theirs(start)
    gap, control = (_distance(ours(each), expected) for each in (start, other))
    return require(
        gap <= TOLERANCE < control / 100,
        f"dW of both sides within {gap:.0e} (at most {TOLERANCE:.0e}); from another A {control:.0e} apart",
    )


def _distance(one: Adapter, other: Adapter) -> float:
    """||dW - dW'|| / ||dW'||, Frobenius, over all modules."""
    gap = lowrank.total_norm(lowrank.stack([(1, one[name]), (-1, other[name])]) for name in other)
    return gap / lowrank.total_norm(other.values())


def peft_engine(case: Case) -> Steps:
    """PEFT's side: from an assignment to the trained adapter, on the batches of ours; it has no frozen branch."""
    base = case.base()
    names, rows = find_targets(base, "query-value"), case.rows(base, case.steps)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(names))
    model: Any = get_peft_model(base.skeleton().model, config)
    layers = {name: model.base_model.model.get_submodule(name) for name in names}
    sides = {n: (each.lora_A["default"].weight, each.lora_B["default"].weight) for n, each in layers.items()}

    def steps(assigned: Assignment) -> Adapter:
        for name, (a, b) in sides.items():
            a.data, b.data = torch.tensor(assigned.start[name].a), torch.tensor(assigned.start[name].b)
        _peft_steps(case, model, rows)
        return Adapter({n: Factors(a.detach().numpy(), b.detach().numpy()) for n, (a, b) in sides.items()})

    return steps


def _peft_steps(case: Case, model: Any, rows: Examples) -> None:
    training, caching = case.training, {"use_cache": False} if case.task == "causal-lm" else {}
    leaves = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(leaves, lr=case.rate, weight_decay=0.0)
    for batch in batches(rows, case.batch, case.steps, (training.seed, NODE, training.round)):
        loss = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.targets, **caching
        ).loss  # Nothing holds the logits through the backward pass, here as with us.
        loss.backward()
        nn.utils.clip_grad_norm_(leaves, training.clip)
        optimizer.step()
        optimizer.zero_grad()


def _peaks(case: Case, shapes: Shapes) -> list[float]:
    """Median bytes by which memory grows in a call, of ours and of PEFT's, each call in a process of its own."""
    engines = (Case.engine, peft_engine)
    grown = [[in_fresh_process(_peak, engine, case, shapes) for engine in engines] for _ in range(PROCESSES)]
    return [median(side) for side in zip(*grown, strict=True)]


def _peak(engine: Callable[[Case], Steps], case: Case, shapes: Shapes) -> int:
    one_thread()
    steps, start = engine(case), assignment(shapes)
    engine(replace(case, batch=1, length=8, steps=1))(start)  # What is imported on first use is nobody's step.
    return peak_growth(lambda: steps(start))
