"""Memory and storage of training: adapters against full fine-tuning of the same model.

arXiv 2106.09685 (abstract) reports 10,000 times fewer trainable parameters and a third of the memory for GPT-3 175B; a
small model has less to save.
"""

from dataclasses import replace
from math import isfinite

from simulations.bench.measure import Comparison, require, run_in_fresh_process
from simulations.bench.training.bases import Case, cases
from simulations.bench.training.fine_tuning import Footprint, adapters, whole_model

PEER = "full fine-tuning"
STEPS = 3


def measure() -> list[Comparison]:
    """Measure parameters, optimizer, checkpoint, update and memory, for every available base model.

    Raises:
        GateError: a side does not learn.
    """
    return [comparison for case in cases() for comparison in compare(replace(case, steps=STEPS, batches=1))]


def compare(case: Case) -> list[Comparison]:
    """Return the comparisons on one base model.

    Raises:
        GateError: a side does not learn.
    """
    one, other = run_in_fresh_process(adapters, case), run_in_fresh_process(whole_model, case)
    gate = require(learns(one.losses) and learns(other.losses), f"loss falls: ours {_fall(one)}, theirs {_fall(other)}")
    figures = [
        ("trainable parameters", one.parameters, other.parameters, "numbers"),
        ("optimizer state", one.optimizer, other.optimizer, "bytes"),
        ("checkpoint (PEFT adapter, whole model)", one.stored, other.stored, "bytes"),
        ("update on the wire (our codec, whole model)", one.sent, other.sent, "bytes"),
        ("peak memory", one.peak, other.peak, "bytes"),
    ]
    return [Comparison(f"{case.name}: {name}", a, b, unit, PEER, gate=gate) for name, a, b, unit in figures]


def learns(losses: tuple[float, float]) -> bool:
    """Return whether both losses are finite and the second is lower."""
    return all(map(isfinite, losses)) and losses[1] < losses[0]


def _fall(side: Footprint) -> str:
    return "{:.3f} to {:.3f}".format(*side.losses)
