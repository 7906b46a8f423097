"""Terms that an assignment adds to a client's gradient, by name; a training step never learns which rule it serves.

A term returns what it adds to the gradient of one trained factor, in the coordinates that the optimizer sees: s is not
folded into their B.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor

from client.model.lora import Branch
from common.adapters.adapter import Adapter, Factors
from common.protocol.assignment import Assignment, Term

Gradient = Callable[[str, str, Tensor], Tensor | None]
"""What to add to the gradient of a factor: by module, side (`a` or `b`) and the factor's present value."""


def _proximal(term: Term, start: Mapping[str, Branch]) -> Gradient:
    """Return the gradient of (mu / 2) ||w - w_0||^2 over the trained A and B (FedProx, arXiv 1812.06127, eq. 2)."""
    began = {(name, side): value.detach().clone() for name, side, value in _factors(start)}
    return lambda name, side, value: term.numbers["mu"] * (value.detach() - began[name, side])


def _control_variate(term: Term, start: Mapping[str, Branch]) -> Gradient:
    """Return c - g_i of the B that holds s, times s by the chain rule (FedLin, arXiv 2102.07053, algorithm 1)."""
    shift = {
        name: start[name].scaling * torch.tensor(factors.b, device=start[name].b.device)
        for name, factors in term.adapter.items()
    }
    return lambda name, side, value: shift.get(name) if side == "b" else None


TERMS: dict[str, Callable[[Term, Mapping[str, Branch]], Gradient]] = {
    "proximal": _proximal,
    "control-variate": _control_variate,
}


def term_fault(assignment: Assignment) -> str | None:
    """Return the fault of the first term that cannot be applied to the assignment's start factors, or None."""
    for term in assignment.terms:
        if term.name not in TERMS:
            return f"this release has the terms {', '.join(TERMS)}, requested is {term.name!r}"
        numbers = {key: value for key, value in term.numbers.items() if type(value) is float and isfinite(value)}
        if numbers.keys() != NUMBERS[term.name] or numbers != dict(term.numbers):
            return f"the term {term.name!r} needs the numbers {sorted(NUMBERS[term.name])}, got {dict(term.numbers)}"
        if any(not _fits(name, factors, assignment.start) for name, factors in term.adapter.items()):
            return f"the factors of the term {term.name!r} do not have the shapes and ranks of those to train"
    return None


def _fits(name: str, factors: Factors, start: Adapter) -> bool:
    return name in start and (factors.shape, factors.rank) == (start[name].shape, start[name].rank)


NUMBERS: Mapping[str, frozenset[str]] = {"proximal": frozenset({"mu"}), "control-variate": frozenset()}
"""The settings that each term needs."""


def make_terms(terms: Sequence[Term], start: Mapping[str, Branch]) -> list[Gradient]:
    """Return the terms of an assignment for the factors that a training starts from."""
    return [TERMS[term.name](term, start) for term in terms]


@torch.no_grad()
def add_terms(terms: Sequence[Gradient], trained: Mapping[str, Branch]) -> None:
    """Add each term to the gradients of the trained factors."""
    for name, side, value in _factors(trained):
        for term in terms:
            if (more := term(name, side, value)) is not None:
                value.grad = more if value.grad is None else value.grad + more


def _factors(branches: Mapping[str, Branch]) -> Iterator[tuple[str, str, Tensor]]:
    """Yield module, side and value of each trained factor."""
    for name, each in branches.items():
        for side, value in (("a", each.a), ("b", each.b)):
            if value.requires_grad:
                yield name, side, value
