"""Tiny models to bench, for what a bench says of results rather than of speed."""

from simulations.bench.training.bases import Case
from simulations.tiny_base import tiny_base

KINDS = {"bert": "classification", "llama": "causal-lm"}


def tiny_case(kind, **changes):
    """Make a case of a few short rows."""
    settings = {"batch": 4, "length": 6, "steps": 4, "batches": 4, "repetitions": 1} | changes
    return Case(kind, tiny_base(kind), KINDS[kind], **settings)
