"""Where numbers first are not finite: the module is sought only once a loss or an update shows that there is one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from client.data.batches import Batch
from client.objectives.base import Objective
from client.training.adapted_model import AdaptedModel
from common.errors import ModelError


class NotFiniteError(ModelError):
    """An update, or what is trained, gives numbers that are not finite, and the base alone does not."""


def not_finite(model: AdaptedModel, objective: Objective, batch: Batch, trained: Sequence[Tensor] = ()) -> ModelError:
    """Return the error for a batch with a loss, or gradients of `trained`, that are not finite.

    It is a `NotFiniteError` if the base alone computes the batch. The lanes of the model are as they were.
    """
    base, lanes = model.base, model.lora.lanes
    model.lora.lanes = ()
    alone = _first_fault(model, objective, batch, ())
    model.lora.lanes = lanes
    if alone:
        kind = str(base.model.dtype).removeprefix("torch.")
        way = 'set dtype = "float32"' if base.model.dtype == torch.float16 else "copy the model again, or give another"
        return ModelError(f"{base.folder}, in {kind}, gives no finite loss: {alone}; {way}")
    where = _first_fault(model, objective, batch, trained) or "it diverged between its steps"
    return NotFiniteError(f"the update gives no finite numbers: {where}; a new run with a lower [train] lr may")


def _first_fault(model: AdaptedModel, objective: Objective, batch: Batch, trained: Sequence[Tensor]) -> str:
    """Return the first thing that is not finite in a forward, then a backward pass; nothing if all is finite."""
    faults: list[str] = []
    with _watching(model.base.model, faults), torch.set_grad_enabled(bool(trained)):
        loss = objective.measure(model, batch).loss
        if not faults and not _is_finite(loss):
            faults.append("the loss is not finite")
        if not faults and trained:
            torch.autograd.grad(loss, list(trained), allow_unused=True)
    return faults[0] if faults else ""


@contextmanager
def _watching(model: nn.Module, faults: list[str]) -> Iterator[None]:
    """Note each module of which an output, or the gradient by it, is not finite while the block runs."""
    handles = [each.register_forward_hook(partial(_look, faults, name)) for name, each in model.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _look(faults: list[str], name: str, module: nn.Module, inputs: Any, output: Any) -> None:
    parts = output if isinstance(output, tuple) else (output,)
    for part in (part for part in parts if isinstance(part, Tensor) and part.is_floating_point()):
        if not _is_finite(part):
            wrong = [key for key, each in module.named_parameters() if not _is_finite(each)]
            why = f", whose {wrong[0]} is not finite in the checkpoint" if wrong else ""
            faults.append(f"first in {name}, a {type(module).__name__}{why}")
        elif part.requires_grad:
            part.register_hook(partial(_look_back, faults, name))  # type: ignore[no-untyped-call]


def _look_back(faults: list[str], name: str, gradient: Tensor) -> None:
    if not _is_finite(gradient):
        faults.append(f"the gradient by the output of {name} is the first that is not")


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
