"""Ranks of modules under a budget of parameters, from the energy of each module's gradient.

One number a module cannot tell how its gradient's energy is spread over directions; what a further rank of it adds is
taken to fall as one over the rank. So parameters are given one rank at a time, each to the module with the largest

    ||G|| / ((d + k) (r + 1))        G (d, k) the gradient by W0, r the rank that the module has so far

which is D'Hondt's rule for seats, with norms of gradients for votes and d + k for the price of a seat.
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from math import sqrt

from common.adapters.adapter import Shapes
from common.errors import ConfigError


def assign_ranks(energies: Mapping[str, float], shapes: Shapes, largest: int, budget: int) -> dict[str, int]:
    """Return the rank of each module, 0 for those that get no adapter; the same whatever the order of the modules.

    Args:
        energies: ||G||^2 by module.
        shapes: (d, k) by module.
        largest: rank that no module exceeds; nor does it min(d, k).
        budget: most parameters, of which a rank of a module costs d + k.

    Raises:
        ConfigError: the budget is below one rank of the cheapest module that has a gradient, or none has.
    """
    ranks, left = dict.fromkeys(sorted(energies), 0), budget
    waiting = [(-_worth(energies[name], shapes[name], 1), name) for name in ranks if energies[name] > 0]
    if not waiting:
        raise ConfigError(
            "[lora] budget: no module that may be adapted has a gradient on the nodes' first batches, so nothing tells "
            "where ranks are of use; set [lora] targets without a budget"
        )
    check_budget(budget, {name: shapes[name] for _, name in waiting})
    heapify(waiting)
    while waiting:
        _, name = heappop(waiting)
        cost = sum(shapes[name])
        if cost > left:  # Nor does a further rank of it fit later; one of a smaller module may.
            continue
        ranks[name], left = ranks[name] + 1, left - cost
        if ranks[name] < min(largest, *shapes[name]):
            heappush(waiting, (-_worth(energies[name], shapes[name], ranks[name] + 1), name))
    return ranks


def check_budget(budget: int, shapes: Shapes, written: str | int | None = None) -> None:
    """Check that a budget of parameters is enough for one rank of a module.

    Args:
        budget: in parameters.
        shapes: (d, k) of each module.
        written: the budget as it was set, where it was not in parameters.

    Raises:
        ConfigError: it is not.
    """
    cheapest = min(sum(shape) for shape in shapes.values())
    if budget < cheapest:
        raise ConfigError(
            f"[lora] budget = {budget if written is None else written!r}: {budget:,} parameters are below one rank of "
            f"the smallest module, which has {cheapest:,}; raise it to {cheapest} parameters or more"
        )


def trained_parameters(ranks: Mapping[str, int], shapes: Shapes) -> int:
    """Return the parameters of A and B at these ranks."""
    return sum(rank * sum(shapes[name]) for name, rank in ranks.items())


def _worth(energy: float, shape: tuple[int, int], rank: int) -> float:
    """Return what the rank of this number adds, for each parameter of it."""
    return sqrt(energy) / (sum(shape) * rank)
