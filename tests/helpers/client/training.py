"""Set-ups to train on: a tiny base with adapters, rows of random tokens, factors to start from."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from client.data.tokens import IGNORE, Example
from client.model.base_model import BaseModel, load_base
from client.model.lora import Lora
from client.model.targets import find_targets
from client.objectives import create_objective
from client.objectives.classification import Classification
from client.objectives.examples import Examples
from client.objectives.preference import Pair
from client.objectives.seq2seq import SourceTarget
from client.training.train import train
from common.adapters.adapter import Adapter, Factors
from common.protocol.assignment import Assignment, Training
from common.settings.node import NodeData
from simulations.tiny_base import tiny_base
from tests.helpers.common.models import LABELS, random_adapter

PLAIN = Training(learning_rates=(1e-2,) * 3, batch=4)
TASKS = [("bert", "classification"), ("gpt2", "classification"), ("llama", "causal-lm"), ("gpt2", "causal-lm")]
TASKS += [("t5", "seq2seq"), ("bart", "seq2seq")]
ALL_TASKS = [*TASKS, ("roberta", "classification"), ("deberta", "classification")]


@dataclass(frozen=True, eq=False)
class Bench:
    """A base with adapters on its query and value projections (and its new head, if any), and rows for its task."""

    base: BaseModel
    lora: Lora
    rows: Examples

    def start(self, rank=2, seed=0, b=True, scaling=1.0, trains="both", frozen=0):
        """Make an assignment with random factors; B = 0 on request; a frozen branch of a rank on request."""
        begin = random_adapter(self.lora.shapes, (rank,), seed)
        if not b:
            begin = Adapter({name: Factors(f.a, np.zeros_like(f.b)) for name, f in begin.items()})
        held = random_adapter(self.lora.shapes, (frozen,), seed + 1000) if frozen else Adapter()
        return Assignment(held, begin, trains, scaling)

    def train(self, assignment, training=PLAIN, name="clinic", rows=None):
        """Return the update of one client."""
        (update,) = train(self.base, self.lora, [assignment], [name], [rows or self.rows], training)
        return update


def bench(kind="bert", task="classification", rows=None, dtype="float32", device="cpu"):
    """Make a bench, whose base a test may change without harm to others."""
    labels = LABELS if task == "classification" else ()
    base = load_base(str(tiny_base(kind)), task, labels, dtype, device)
    base = replace(base, model=copy.deepcopy(base.model))
    return Bench(base, Lora(base.model, find_targets(base, "query-value")), rows or random_rows(task, [5, 9, 7, 6] * 3))


def random_rows(task, lengths, given=(1,), seed=0):
    """Rows of random tokens; for causal-lm the first `given` tokens of a row (in turn) carry no loss.

    For seq2seq, what is written is half as long as what is read.
    """
    if task == "seq2seq":
        return random_sources(lengths, seed)
    rng = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate(lengths):
        ids = rng.integers(7, 512, length).astype(np.int32)
        targets = ids.copy()
        targets[: given[number % len(given)]] = IGNORE
        rows.append(Example(ids, int(rng.integers(len(LABELS))) if task == "classification" else targets, cut=False))
    return Examples(tuple(rows), create_objective(NodeData(task=task)), pad_id=0)


def random_sources(lengths, seed=0):
    """Pairs of random tokens to read, of these lengths, and to write, half as many."""
    rng = np.random.default_rng(seed)
    sides = [[rng.integers(7, 512, n).astype(np.int32) for n in (length, length // 2 + 1)] for length in lengths]
    rows = (
        SourceTarget(Example(source, np.full_like(source, IGNORE), False), Example(target, target, False))
        for source, target in sides
    )
    return Examples(tuple(rows), create_objective(NodeData(task="seq2seq")), pad_id=0)


def random_pairs(lengths, given=(1,), seed=0, beta=0.1):
    """Pairs of rows of random tokens, of which the first `given` (in turn) carry no loss; lengths are of the rows."""
    rows = random_rows("causal-lm", lengths, given, seed).rows
    objective = create_objective(NodeData(task="preference", beta=beta))
    return Examples(tuple(map(Pair, rows[::2], rows[1::2])), objective, pad_id=0)


def same_bits(one, other):
    """Return whether two adapters have the same bits."""
    ours, theirs = one.arrays(), other.arrays()
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)


def largest_gap(one, other):
    """Return the largest difference between entries of two adapters."""
    theirs = other.arrays()
    return max(float(np.abs(array - theirs[key]).max()) for key, array in one.arrays().items() if array.size)


@contextmanager
def gradients() -> Iterator[list[list[torch.Tensor]]]:
    """For each optimizer step within: the gradients it takes, in the order of its parameters."""
    steps: list[list[torch.Tensor]] = []

    def note(optimizer, args, kwargs):
        steps.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield steps
    finally:
        handle.remove()


class Steep(Classification):
    """A loss of the same value, with gradients that are not finite."""

    def measure(self, model, batch):
        measured = super().measure(model, batch)
        return replace(measured, loss=measured.loss + (measured.loss - measured.loss.detach()).sqrt())
