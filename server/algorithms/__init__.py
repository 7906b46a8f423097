"""Federated LoRA rules: each is pure functions, `assign` and `reduce`, on one shape of state. Registry by name."""

from common.errors import look_up
from common.settings.recipe import Rule
from server.algorithms.base import Algorithm, AlgorithmSettings, WeightedUpdate
from server.algorithms.fedit import FedIT
from server.algorithms.fedlin import FedLin
from server.algorithms.hetlora import HetLoRA
from server.algorithms.increments import Increments
from server.algorithms.weighting import weighting_named

ALGORITHMS: dict[str, type[Algorithm]] = {
    "increments": Increments,
    "fedlin": FedLin,
    "fedit": FedIT,
    "hetlora": HetLoRA,
}


def create_algorithm(settings: AlgorithmSettings) -> Algorithm:
    """Make the algorithm that [server] algorithm names.

    Raises:
        ConfigError: no algorithm or weighting rule has the name in the settings, or it does not support them.
    """
    weighting_named(settings.server.weights)
    return algorithm_named(settings.server.algorithm)(settings)


def algorithm_named(name: str) -> type[Algorithm]:
    """Return the algorithm of this name.

    Raises:
        ConfigError: there is none.
    """
    return look_up(ALGORITHMS, "[server] algorithm", name)


def weights_of(rule: Rule) -> str:
    """Return the name of the weighting rule of a run: the algorithm's own, or else [server] weights.

    Raises:
        ConfigError: no algorithm has the name in the settings.
    """
    return algorithm_named(rule.algorithm).weights or rule.weights


__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "AlgorithmSettings",
    "WeightedUpdate",
    "algorithm_named",
    "create_algorithm",
    "weights_of",
]
