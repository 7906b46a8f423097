"""One rank for every module of an adapter, so that every reader scales it alike.

    PEFT, vLLM     s = alpha / r of the configuration (PEFT knows patterns of both, vLLM does not)
    llama.cpp      s = alpha / rows of each tensor's own A (src/llama-adapter.h, `get_scale`)

With r = alpha = R for all, and factors padded with zeros to R, s = 1 in all of them, and B A is unchanged.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors, zeros
from common.errors import ConfigError


@dataclass(frozen=True)
class Truncation:
    """What a smaller rank leaves out, relative in the Frobenius norm of dW.

    Args:
        rank: of every module.
        error: over all modules together.
        worst: name of the module with the largest error of its own.
        worst_error: that error.
    """

    rank: int
    error: float
    worst: str
    worst_error: float


def truncate(adapter: Adapter, rank: int) -> tuple[Adapter, Truncation]:
    """Return the best approximation of each module of at most this rank, and what it leaves out.

    Raises:
        ConfigError: no module has this rank.
    """
    if rank > adapter.rank:
        raise ConfigError(
            f"--rank {rank} is above {adapter.rank}, the largest rank of this run's modules; give at most that"
        )
    spectra = {name: lowrank.spectrum(factors) for name, factors in adapter.items()}
    lost = {name: float(np.sum(sigma[rank:] ** 2)) for name, sigma in spectra.items()}
    whole = {name: float(np.sum(sigma**2)) for name, sigma in spectra.items()}
    worst = max(lost, key=lambda name: _relative(lost[name], whole[name]))
    told = Truncation(
        rank,
        _relative(sum(lost.values()), sum(whole.values())),
        worst,
        _relative(lost[worst], whole[worst]),
    )
    return Adapter({name: lowrank.truncate(f, rank).astype("f4") for name, f in adapter.items()}), told


def _relative(lost: float, whole: float) -> float:
    return sqrt(lost / whole) if whole else 0.0


def pad(adapter: Adapter, rank: int | None = None) -> Adapter:
    """Return the same update with factors of one rank, the largest or `rank`; modules of rank 0 are left out.

    An update of zeros keeps all modules, at rank 1: no program reads an adapter of none.
    """
    trained = Adapter({name: factors for name, factors in adapter.items() if factors.rank})
    if not trained:
        return Adapter({name: _pad(factors, rank or 1) for name, factors in zeros(adapter.shapes).items()})
    return Adapter({name: _pad(factors, rank or trained.rank) for name, factors in trained.items()})


def _pad(factors: Factors, rank: int) -> Factors:
    missing = rank - factors.rank
    return Factors(np.pad(factors.a, ((0, missing), (0, 0))), np.pad(factors.b, ((0, 0), (0, missing))))
