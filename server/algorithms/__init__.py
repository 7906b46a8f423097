"""Federated LoRA rules: each is pure functions, `assign` and `reduce`, on one shape of state. Registry by name."""

from collections.abc import Mapping
from typing import Any

from common.errors import ConfigError, look_up
from common.settings.recipe import Rule
from server.algorithms.base import Algorithm, AlgorithmSettings, WeightedUpdate
from server.algorithms.fedit import FedIT
from server.algorithms.fedlin import FedLin
from server.algorithms.fedsgd import FedSGD
from server.algorithms.hetlora import HetLoRA
from server.algorithms.increments import Increments
from server.algorithms.weighting import weighting_named

ALGORITHMS: dict[str, type[Algorithm]] = {
    "increments": Increments,
    "fedsgd": FedSGD,
    "fedlin": FedLin,
    "fedit": FedIT,
    "hetlora": HetLoRA,
}


def create_algorithm(settings: AlgorithmSettings) -> Algorithm:
    """Make the algorithm that [server] algorithm names.

    Raises:
        ConfigError: no algorithm or weighting rule has the name in the settings, or it does not support them.
    """
    algorithm = algorithm_named(settings.server.algorithm)
    weighting_named(weights_of(settings.server))
    _check_keys(settings.server, algorithm)
    if settings.lora.head != "trained" and not algorithm.takes_heads:
        having = " or ".join(f'"{name}"' for name, each in ALGORITHMS.items() if each.takes_heads)
        raise ConfigError(
            f'[lora] head = "{settings.lora.head}", but algorithm = "{settings.server.algorithm}" has no sum in which '
            f'a head can be replaced; set head = "trained", or algorithm = {having}'
        )
    return algorithm(settings)


OWN_KEYS: Mapping[str, Any] = {
    "rank_change": None,
    "rank_shared": None,
    "optimizer": None,
    "betas": None,
    "hold": ("auto", "never"),
}
"""Keys of [server] that not every algorithm has, each with the values that ask for nothing."""


def _check_keys(rule: Rule, algorithm: type[Algorithm]) -> None:
    for key, nothing in OWN_KEYS.items():
        value = getattr(rule, key)
        if value != nothing and value not in (nothing or ()) and key not in algorithm.keys:
            having = " or ".join(f'"{name}"' for name, each in ALGORITHMS.items() if key in each.keys)
            raise ConfigError(
                f'[server] {key} = {value!r}, but algorithm = "{rule.algorithm}" has no such setting; '
                f"remove {key}, or set algorithm = {having}"
            )


def algorithm_named(name: str) -> type[Algorithm]:
    """Return the algorithm of this name.

    Raises:
        ConfigError: there is none.
    """
    return look_up(ALGORITHMS, "[server] algorithm", name)


def weights_of(rule: Rule) -> str:
    """Return the name of the weighting rule of a run: the algorithm's only one, [server] weights, or its default.

    Raises:
        ConfigError: no algorithm has the name in the settings.
    """
    algorithm = algorithm_named(rule.algorithm)
    return algorithm.weights or rule.weights or algorithm.default_weights


__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "AlgorithmSettings",
    "WeightedUpdate",
    "algorithm_named",
    "create_algorithm",
    "weights_of",
]
