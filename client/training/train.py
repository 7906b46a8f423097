"""Training of adapters on a frozen base: K assignments in, K updates out.

Only A and B have gradients and optimizer state. A round may start from B = 0, so the server's learning rates include a
warm-up; optimizer moments belong to the coordinates of one A and are not kept after the round.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import isfinite

import numpy as np
import torch
from torch import Tensor, nn

from client.data.batches import Batch
from client.model.base_model import BaseModel
from client.model.lora import Branch, Dropout, Lane, Lora, branch, frozen_lane
from client.objectives.base import Objective
from client.objectives.examples import Examples, batches
from client.training.adapted_model import AdaptedModel
from client.training.checkpointing import checkpoint_activations
from client.training.mean_gradient import MeanGradient
from client.training.not_finite import not_finite
from client.training.progress import Watch, ignore
from client.training.terms import add_terms, make_terms
from common.adapters.adapter import Adapter, Factors
from common.errors import ModelError
from common.protocol.assignment import Assignment, Training, Update


def train(
    base: BaseModel,
    lora: Lora,
    assignments: Sequence[Assignment],
    names: Sequence[str],
    datasets: Sequence[Examples],
    training: Training,
    watch: Watch = ignore,
) -> list[Update]:
    """Train one update for each assignment, on the data at the same position.

    Args:
        base: the frozen model, shared by all.
        lora: adapters attached to `base`; its lanes are overwritten.
        assignments: what to freeze, where to start and what to train.
        names: node names; they key the order of the data and the dropout masks.
        datasets: examples of each node, with their objective.
        training: steps and rates, the same for all.
        watch: called after each step.

    Raises:
        ModelError: a loss or factor is not finite; names the step, and the module where that is known.
    """
    with checkpoint_activations(base.model, training.checkpointing):
        return [
            _train_one(base, lora, assignment, name, examples, training, watch)
            for assignment, name, examples in zip(assignments, names, datasets, strict=True)
        ]


def _train_one(
    base: BaseModel,
    lora: Lora,
    assignment: Assignment,
    name: str,
    examples: Examples,
    training: Training,
    watch: Watch,
) -> Update:
    trained = trainable(assignment, base.device)
    terms, gradients = make_terms(assignment.terms, trained), MeanGradient()
    frozen = frozen_lane(assignment.frozen, base.device).frozen
    parameters = [p for each in trained.values() for p in (each.a, each.b) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0)
    # Small gradients underflow in float16; the other types have float32's range.
    scaler = torch.amp.GradScaler(base.device.type, enabled=base.model.dtype == torch.float16)
    model, objective = AdaptedModel(base, lora), examples.objective
    stream = node_batches(examples, name, training, base.device)
    rows, tokens, losses = 0, 0, []
    for step, rate in enumerate(training.learning_rates):
        group = list(islice(stream, training.accumulate))
        lanes = [Lane(trained, frozen, pass_dropout(training, name, step, part)) for part in range(len(group))]
        losses.append(backward(model, objective, group, lanes, scaler))
        scaler.unscale_(optimizer)
        if assignment.returns == "update":
            add_terms(terms, trained)
            optimizer_step(optimizer, scaler, parameters, rate, training.clip)
        else:
            gradients.add(scaler, parameters)
        rows, tokens = rows + sum(map(len, group)), tokens + sum(map(objective.count, group))
        watch(step, losses[-1])
    lora.lanes = ()
    if assignment.returns == "gradient":
        trained = gradients.as_factors(trained)
    update = Update(_adapter(trained), rows, tokens, torch.stack(losses).mean().item())
    if not _is_finite(update):
        raise _fault(model, assignment, name, examples, training, losses)
    return update


def _is_finite(update: Update) -> bool:
    factors = (array for each in update.adapter.values() for array in (each.a, each.b))
    return isfinite(update.loss) and all(bool(np.isfinite(array).all()) for array in factors)


def _fault(
    model: AdaptedModel,
    assignment: Assignment,
    name: str,
    examples: Examples,
    training: Training,
    losses: Sequence[Tensor],
) -> ModelError:
    """Return the error of a training: the rows of its first step without a finite loss, at the factors of its start."""
    step = next((number for number, loss in enumerate(losses) if not torch.isfinite(loss)), 0)
    passes = node_batches(examples, name, training, model.base.device)
    batch = next(islice(passes, step * training.accumulate, None))
    start = trainable(assignment, model.base.device)
    model.lora.lanes = [Lane(start, frozen_lane(assignment.frozen, model.base.device).frozen)]
    factors = [p for each in start.values() for p in (each.a, each.b) if p.requires_grad]
    try:
        return not_finite(model, examples.objective, batch, factors)
    finally:
        model.lora.lanes = ()


def backward(
    model: AdaptedModel,
    objective: Objective,
    group: Sequence[Batch],
    lanes: Sequence[Lane],
    scaler: torch.amp.GradScaler,
) -> Tensor:
    """Add up gradients of the mean loss over all predictions of a group of batches; return it, on the device."""
    count = sum(map(objective.count, group))
    total = torch.zeros((), device=model.base.device)
    for batch, lane in zip(group, lanes, strict=True):
        model.lora.lanes = [lane]
        loss = objective.measure(model, batch).loss / count
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def optimizer_step(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parameters: Sequence[Tensor],
    rate: float,
    clip: float,
) -> None:
    """Make one step along gradients that are unscaled."""
    optimizer.param_groups[0]["lr"] = rate
    if clip:
        nn.utils.clip_grad_norm_(parameters, clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


def trainable(assignment: Assignment, device: torch.device) -> dict[str, Branch]:
    """Make branches of the start factors. The client applies s itself, so the s folded into b is divided out once."""
    result = {}
    for name, factors in assignment.start.items():
        start = branch(Factors(factors.a, factors.b / assignment.scaling), device)
        start.a.requires_grad_(assignment.trains in ("both", "a"))
        start.b.requires_grad_(assignment.trains in ("both", "b"))
        result[name] = Branch(start.a, start.b, assignment.scaling)
    return result


def _adapter(trained: Mapping[str, Branch]) -> Adapter:
    return Adapter(
        {
            name: Factors(each.a.detach().cpu().numpy(), (each.b.detach() * each.scaling).cpu().numpy())
            for name, each in trained.items()
        }
    )


def node_batches(examples: Examples, name: str, training: Training, device: torch.device) -> Iterator[Batch]:
    """Yield the batches of all passes of a node of this name, on the device."""
    count = len(training.learning_rates) * training.accumulate
    key = training.stream_key(name)
    for batch in batches(examples, training.batch, count, key, pin=device.type == "cuda"):
        yield batch.to(device)


def pass_dropout(training: Training, name: str, step: int, part: int) -> Dropout | None:
    """Return the dropout of one pass, whose key is its node, round, step and place in the step."""
    if not training.dropout:
        return None
    key = "/".join(map(str, (*training.stream_key(name), step, part)))
    return Dropout(training.dropout, int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little"))
