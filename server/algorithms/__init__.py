"""Federated LoRA rules: each is two pure functions, `assign` and `reduce`, on one shape of state. Registry by name."""

from common.errors import ConfigError, nearest
from server.algorithms.base import Algorithm, AlgorithmSettings, WeightedUpdate
from server.algorithms.fedit import FedIT
from server.algorithms.hetlora import HetLoRA
from server.algorithms.increments import Increments

ALGORITHMS: dict[str, type[Algorithm]] = {"increments": Increments, "fedit": FedIT, "hetlora": HetLoRA}


def create_algorithm(settings: AlgorithmSettings) -> Algorithm:
    """Make the algorithm that [server] algorithm names.

    Raises:
        ConfigError: no algorithm has this name, or it does not support these ranks.
    """
    return algorithm_named(settings.server.algorithm)(settings)


def algorithm_named(name: str) -> type[Algorithm]:
    """Return the algorithm of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"[server] algorithm = {name!r} is unknown{nearest(name, ALGORITHMS)}")
    return ALGORITHMS[name]


__all__ = ["ALGORITHMS", "Algorithm", "AlgorithmSettings", "WeightedUpdate", "algorithm_named", "create_algorithm"]
