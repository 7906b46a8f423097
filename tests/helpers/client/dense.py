"""Training written out with dense matrices, W = W0 + U V + s B A, by another way than the engine's."""

from itertools import islice

import torch
from torch.func import functional_call
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from client.data.tokens import IGNORE
from client.objectives.examples import batches
from common.adapters.adapter import Adapter, Factors


def dense_update(bench, assignment, training, name="clinic", mean_of_means=False):
    """(s B, A) after training; with `mean_of_means` each batch of an accumulated step counts alike (wrong).

    In the type of the base model. The terms of the assignment are terms of the loss.
    """
    sides = _sides(bench, assignment)
    began = {module: [leaf.detach().clone() for leaf in pair] for module, pair in sides.items()}
    leaves = [leaf for pair in sides.values() for leaf in pair if leaf.requires_grad]
    optimizer = torch.optim.Adam(leaves)
    steps, count = len(training.learning_rates) * training.accumulate, bench.rows.objective.count
    stream = batches(bench.rows, training.batch, steps, training.stream_key(name))
    for rate in training.learning_rates:
        group = list(islice(stream, training.accumulate))
        weight = [1 / (len(group) * count(b) if mean_of_means else sum(map(count, group))) for b in group]
        loss = sum(w * _loss(bench, assignment, sides, batch) for w, batch in zip(weight, group, strict=True))
        loss = loss + sum(_term(term, assignment.scaling, sides, began) for term in assignment.terms)
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            leaf.grad = gradient
        _clip(leaves, training.clip)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    s = assignment.scaling
    return Adapter({n: Factors(a.detach().numpy(), s * b.detach().numpy()) for n, (a, b) in sides.items()})


def dense_gradient(bench, assignment, training, name="clinic"):
    """Return the gradient by s B of the mean loss over the batches of a training that makes no step, by module."""
    sides, steps, count = _sides(bench, assignment), len(training.learning_rates), bench.rows.objective.count
    stream = list(islice(batches(bench.rows, training.batch, steps, training.stream_key(name)), steps))
    loss = sum(_loss(bench, assignment, sides, batch) / count(batch) for batch in stream) / steps
    gradients = torch.autograd.grad(loss, [b for _, b in sides.values()])
    return {n: (g / assignment.scaling).numpy() for n, g in zip(sides, gradients, strict=True)}


def _term(term, scaling, sides, began):
    """Return the term as a part of the loss, of which its gradient is the derivative."""
    if term.name == "proximal":
        moved = [now - then for n in sides for now, then in zip(sides[n], began[n], strict=True)]
        return term.numbers["mu"] / 2 * sum(each.square().sum() for each in moved)
    shift = {name: torch.tensor(factors.b, dtype=sides[name][1].dtype) for name, factors in term.adapter.items()}
    return sum((shift[name] * scaling * sides[name][1]).sum() for name in sides)


def _sides(bench, assignment):
    dtype = bench.base.model.dtype
    return {module: _leaves(factors, assignment, dtype) for module, factors in assignment.start.items()}


def _leaves(factors, assignment, dtype):
    a, b = torch.tensor(factors.a, dtype=dtype), torch.tensor(factors.b / assignment.scaling, dtype=dtype)
    return a.requires_grad_(assignment.trains != "b"), b.requires_grad_(assignment.trains != "a")


def _loss(bench, assignment, sides, batch):
    logits = _logits(bench, assignment, sides, batch)
    if bench.base.task == "preference":
        nothing = {name: (0 * a.detach(), 0 * b.detach()) for name, (a, b) in sides.items()}
        return _preference(logits, _logits(bench, assignment, nothing, batch), batch, bench.rows.objective.data.beta)
    if bench.base.task == "classification":
        return F.cross_entropy(logits, batch.targets, reduction="sum")
    if bench.base.task == "seq2seq":
        return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten(), reduction="sum")


def _logits(bench, assignment, sides, batch):
    model = bench.base.model
    weights = {f"{n}.weight": _dense(model.get_submodule(n), n, assignment, *pair) for n, pair in sides.items()}
    tokens = {"input_ids": batch.input_ids.flatten(0, -2), "attention_mask": batch.attention_mask.flatten(0, -2)}
    if bench.base.task == "seq2seq":
        tokens["labels"] = batch.targets
    return functional_call(model, weights, kwargs=tokens).logits


def _preference(policy, reference, batch, beta):
    """Equation 7 of arXiv 2305.18290, pair by pair."""
    total = 0
    for pair in range(len(batch)):
        gains = []
        for answer, row in enumerate((2 * pair, 2 * pair + 1)):
            targets = batch.targets[pair, answer, 1:]
            learned = targets != IGNORE
            chosen = [
                F.log_softmax(each[row, :-1], -1)[learned, targets[learned]].sum() for each in (policy, reference)
            ]
            gains.append(chosen[0] - chosen[1])
        total = total - torch.log(torch.sigmoid(beta * (gains[0] - gains[1])))
    return total


def _dense(module, name, assignment, a, b):
    added = assignment.scaling * b @ a
    if name in assignment.frozen:
        held = assignment.frozen[name]
        added = added + torch.tensor(held.b, dtype=a.dtype) @ torch.tensor(held.a, dtype=a.dtype)
    return module.weight + (added.T if isinstance(module, Conv1D) else added)


def _clip(leaves, largest):
    norm = torch.sqrt(sum(leaf.grad.square().sum() for leaf in leaves))
    if largest and norm > largest:
        for leaf in leaves:
            leaf.grad *= largest / norm
