"""Whether updates of two ranks, or two seeds, move the same way (arXiv 2106.09685, section 7.2, appendix H)."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from common.adapters.adapter import Adapter, Array
from common.errors import RunError
from common.seeding import rng
from simulations.studies.engine.estimate import Estimate, estimate
from simulations.studies.engine.figures import heat_maps
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study, require_classes
from simulations.studies.measures import subspaces
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.places import projections, role_of

LOW, HIGH = "r = 8", "r = 64"
SEEDS = "two seeds"
SIDES: Mapping[str, subspaces.Side] = {"inputs": "right", "outputs": "left"}
SHOWN = 8
"""Directions of the lower rank, and the first of two seeds that are compared."""


def _arms(setting: Setting) -> Sequence[Arm]:
    require_classes(setting, "subspace")
    projections(setting.base, "query")  # Of its own, or it is refused.
    of = setting.rows_of_adapters
    rate = (setting.recipe().train.lr,)
    return [Arm(name, LowRank(rank), rate, of, keeps=True) for name, rank in ((LOW, 8), (HIGH, 64))]


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    low, high = found[LOW][0].update, found[HIGH][0].update
    _check(low)
    _check(high)
    maps = {
        "Wq, r = 8 and r = 64": _mean(low, high, "query"),
        "Wv, r = 8 and r = 64": _mean(low, high, "value"),
        "random, r = 8 and r = 64": _by_chance(high),
        **_of_seeds([each.update for each in found[HIGH]]),
    }
    rows = [[name, *(f"{values[i]:.3f}" for i in ((0, 0), (3, 3), (7, 7)))] for name, values in maps.items()]
    rows += [_of_factors(low, high, role) for role in ("query", "value")]
    first = [_first(low, high, role) for role in ("query", "value")]
    chance = maps["random, r = 8 and r = 64"][0, 0]
    seeds = [values[0, 0] for name, values in maps.items() if SEEDS in name]
    text = (
        f"The top directions of rank 8 and of rank 64 overlap by phi(1, 1) = {first[0]} in Wq and {first[1]} "
        f"in Wv, over the layers, where random ones overlap by {chance:.3f}; the paper finds more than 0.5. "
        f"{_spell(seeds)}Singular vectors are those of B A, on the side of the inputs; the last rows have those of A "
        "alone, as the paper takes them, which keep much of its random start where training is short."
    )
    columns = ["compared", "phi(1, 1)", "phi(4, 4)", "phi(8, 8)"]
    numbers = {"similarity": {name: values.tolist() for name, values in maps.items()}}
    held = _verdict(first, seeds, chance)
    return Findings(columns, rows, held, text, partial(heat_maps, found=maps, labels=("i", "j")), numbers)


def _first(low: Adapter, high: Adapter, role: str) -> Estimate:
    """Return phi (1, 1) over the layers."""
    names = [name for name in low if role_of(name) == role]
    top = [[subspaces.directions(each[name])[:, :1] for each in (low, high)] for name in names]
    return estimate([float(subspaces.similarity(*pair)[0, 0]) for pair in top])


def _check(update: Adapter) -> None:
    """Check that there are as many directions in each module as are compared.

    Raises:
        RunError: a module has fewer.
    """
    found = {name: subspaces.directions(factors).shape[1] for name, factors in update.items()}
    name = min(found, key=lambda each: found[each])
    if found[name] < SHOWN:
        raise RunError(
            f"{name}: training has moved it in {found[name]} directions, and study subspace compares {SHOWN}; more "
            "rounds (train.rounds) or a larger server.rank_global give more"
        )


def _verdict(ranks: Sequence[Estimate], seeds: Sequence[float], chance: float) -> bool | None:
    """Return whether two ranks share their top direction, and two seeds more than chance; None if only some do."""
    if max(each.high for each in ranks) < 0.5:
        return False
    shared = min(each.low for each in ranks) > 0.5
    return True if seeds and shared and min(seeds) > chance else None


def _spell(seeds: Sequence[float]) -> str:
    values = ", ".join(f"{each:.2f}" for each in seeds)
    return f"Those of two seeds at r = 64 overlap by {values}, in the order of the table. " if seeds else ""


def _mean(first: Adapter, second: Adapter, role: str, side: subspaces.Side = "right") -> Array:
    """Return phi (i, j), the mean over the layers."""
    names = [name for name in first if role_of(name) == role]
    maps = [
        subspaces.similarity(
            subspaces.directions(first[name], side)[:, :SHOWN], subspaces.directions(second[name], side)
        )
        for name in names
    ]
    return _mean_of(maps)


def _mean_of(maps: Sequence[Array]) -> Array:
    """Return the mean of maps, as wide as the narrowest: a module may be smaller than the rank."""
    width = min(each.shape[1] for each in maps)
    return np.asarray(np.mean([each[:, :width] for each in maps], axis=0))


def _of_seeds(updates: Sequence[Adapter]) -> Mapping[str, Array]:
    if len(updates) < 2:
        return {}
    return {
        f"W{role[0]}, {SEEDS}, {name}": _mean(updates[0], updates[1], role, side)
        for role in ("query", "value")
        for name, side in SIDES.items()
    }


def _of_factors(low: Adapter, high: Adapter, role: str) -> list[str]:
    maps = [
        subspaces.similarity(subspaces.factor_directions(low[name]), subspaces.factor_directions(high[name]))
        for name in low
        if role_of(name) == role
    ]
    mean = np.mean(maps, axis=0)
    return [f"W{role[0]}, A alone, r = 8 and r = 64", *(f"{mean[i]:.3f}" for i in ((0, 0), (3, 3), (7, 7)))]


def _by_chance(like: Adapter) -> Array:
    """Return phi of random directions, the mean over as many as there are modules."""
    draws = rng("subspace", "chance")
    pairs = [
        (np.linalg.qr(draws.standard_normal((k, SHOWN)))[0], np.linalg.qr(draws.standard_normal((k, each.rank)))[0])
        for each in like.values()
        for k in [each.shape[1]]
    ]
    return _mean_of([subspaces.similarity(*pair) for pair in pairs])


STUDY = Study(
    "The subspaces of two ranks, and of two seeds",
    "The top singular directions of A at r = 8 and r = 64 overlap with a normalised similarity above 0.5, and the "
    "others do not; two seeds share more directions than two random matrices (section 7.2, figures 3 and 4; GPT-3).",
    _arms,
    _conclude,
    seeds=2,
    most_seeds=2,
    federates=True,
)
