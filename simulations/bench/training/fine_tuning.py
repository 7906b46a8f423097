"""Memory and storage of two ways to fine-tune a model: with adapters, and with all of its weights.

Both take AdamW steps on one batch, in float32 on one thread, and are meant for a separate process each. Memory is the
bytes of the model's weights plus the most that the steps add to the resident memory: activations, gradients, optimizer
state and, with adapters, the factors. These have rank 8, on query, value and a new head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from client.data.batches import Batch
from client.model.base_model import BaseModel
from client.model.lora import Lora
from client.objectives import Objective
from client.objectives.examples import eval_batches
from client.training.adapted_model import AdaptedModel
from client.training.evaluate import evaluate
from common.adapters import codec
from common.adapters.adapter import Adapter
from common.huggingface.peft_folder import WEIGHTS, write_peft_folder
from simulations.bench.measure import peak_growth
from simulations.bench.training.bases import Case, assignment, attach, one_thread

FULL_RATE = 1e-4


@dataclass(frozen=True)
class Footprint:
    """Memory and storage of one side.

    Args:
        parameters: numbers that are trained.
        optimizer: bytes of the optimizer's state.
        stored: bytes of the safetensors file with what was trained.
        sent: bytes of one update on the wire.
        peak: bytes of the weights and the most that the steps add.
        losses: in nats, before and after.
    """

    parameters: int
    optimizer: int
    stored: int
    sent: int
    peak: int
    losses: tuple[float, float]


def adapters(case: Case) -> Footprint:
    """Measure the footprint of adapters, trained by the engine of a client."""
    base, lora = attach(_ready(case))
    start, steps, updates = assignment(lora.shapes), case.engine(), list[Adapter]()
    with _optimizer_bytes() as held:
        growth = peak_growth(lambda: updates.append(steps(start)))
    (update,), rows = updates, case.rows(base)
    first, last = (evaluate(base, lora, each, rows, case.batch).loss for each in (start.start, update))
    numbers = sum(array.size for array in update.arrays().values())
    stored, sent = _adapter_bytes(base, update), len(codec.encode_adapter(update))
    return Footprint(numbers, held[-1], stored, sent, _weights(base) + growth, (first, last))


def whole_model(case: Case) -> Footprint:
    """Measure the footprint of full fine-tuning, which changes the base model of this process."""
    base = _ready(case)
    model, rows = AdaptedModel(base, Lora(base.model, ())), case.rows(base)
    base.model.requires_grad_(True)
    (batch,) = eval_batches(rows, case.batch)
    losses: list[float] = []
    with _optimizer_bytes() as held:
        growth = peak_growth(lambda: losses.extend(_steps(model, rows.objective, batch, case)))
    numbers = sum(parameter.numel() for parameter in base.model.parameters())
    stored = _model_bytes(base)
    return Footprint(numbers, held[-1], stored, stored, _weights(base) + growth, (losses[0], losses[-1]))


def _steps(model: AdaptedModel, objective: Objective, batch: Batch, case: Case) -> Iterator[float]:
    """Yield the loss before each step, and after the last."""
    optimizer = torch.optim.AdamW(model.base.model.parameters(), lr=FULL_RATE, weight_decay=0.0)
    for _ in range(case.steps):
        loss = objective.measure(model, batch).loss / objective.count(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.base.model.parameters(), case.training.clip)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()
    with torch.no_grad():
        yield objective.measure(model, batch).loss.item() / objective.count(batch)


def _ready(case: Case) -> BaseModel:
    """Return the base model after a warm-up step, which imports everything that is imported on first use."""
    one_thread()
    base = case.base()
    case.small().engine()(assignment(attach(base)[1].shapes))
    return base


@contextmanager
def _optimizer_bytes() -> Iterator[list[int]]:
    """Record, for each optimizer step in the block, the bytes of the state's tensors after it."""
    held: list[int] = []

    def note(optimizer: Optimizer, *_: object) -> None:
        tensors = (value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value))
        held.append(sum(tensor.nbytes for tensor in tensors))

    handle = register_optimizer_step_post_hook(note)
    try:
        yield held
    finally:
        handle.remove()


def _weights(base: BaseModel) -> int:
    return sum(parameter.nbytes for parameter in base.model.parameters())


def _adapter_bytes(base: BaseModel, update: Adapter) -> int:
    with TemporaryDirectory() as folder:
        write_peft_folder(Path(folder), update, base.head, str(base.folder), base.task)
        return (Path(folder) / WEIGHTS).stat().st_size


def _model_bytes(base: BaseModel) -> int:
    with TemporaryDirectory() as folder:
        base.model.save_pretrained(folder)
        return (Path(folder) / "model.safetensors").stat().st_size
