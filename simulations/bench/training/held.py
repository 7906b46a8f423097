"""Bytes of a base that is held in fewer bits, against float32, and the loss of one training on each.

Bytes are those of all parameters, buffers and scales. A training takes AdamW steps on one batch, with factors of rank 8
on query, value and a new head; of its fall of the loss in float32, each dtype must reach most.
"""

from dataclasses import dataclass, replace

from client.model.quantised import held_bytes
from client.training.evaluate import evaluate
from common.settings.types import Dtype
from simulations.bench.measure import Comparison, require, run_in_fresh_process
from simulations.bench.training.bases import Case, assignment, attach, cases

PEER = "float32"
FEWER: tuple[Dtype, ...] = ("bfloat16", "int8", "nf4")
STEPS = 3
LEAST = 0.75
"""Share of the fall of the loss in float32."""


@dataclass(frozen=True)
class Held:
    """A base in memory: its bytes, and the losses in nats before and after a training."""

    size: int
    before: float
    after: float

    @property
    def fall(self) -> float:
        """Of the loss."""
        return self.before - self.after

    def __str__(self) -> str:
        """Return the losses in words."""
        return f"{self.before:.3f} to {self.after:.3f}"


def measure() -> list[Comparison]:
    """Measure every available base model.

    Raises:
        GateError: a training on fewer bits does not learn as in float32.
    """
    return [comparison for case in cases() for comparison in compare(replace(case, steps=STEPS, batches=1))]


def compare(case: Case) -> list[Comparison]:
    """Return the comparisons on one base model, and raise as `measure`."""
    whole = run_in_fresh_process(hold, case)
    return [_against(case, whole, dtype, run_in_fresh_process(hold, replace(case, dtype=dtype))) for dtype in FEWER]


def _against(case: Case, whole: Held, dtype: str, fewer: Held) -> Comparison:
    told = f"{case.name}: loss in {PEER} {whole}, in {dtype} {fewer}"
    gate = require(whole.fall > 0 and fewer.fall >= LEAST * whole.fall, told)
    return Comparison(f"{case.name} held in {dtype}", fewer.size, whole.size, "bytes", PEER, gate=gate)


def hold(case: Case) -> Held:
    """Hold a base, and train on it."""
    base, lora = attach(case.base())
    start, rows = assignment(lora.shapes), case.rows(base)
    update = case.engine()(start)
    first, last = (evaluate(base, lora, each, rows, case.batch).loss for each in (start.start, update))
    return Held(held_bytes(base.model), first, last)
