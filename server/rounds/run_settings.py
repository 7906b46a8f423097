"""What a run is asked to do, from a recipe or from a deployment's own file."""

from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Self

from common.protocol.assignment import Training
from common.settings.recipe import LoraSettings, Recipe, Server, Train
from common.settings.resume import config_hash
from common.settings.server import ServerFile

ATTEMPTS = 3
"""How often a deployment tries a round: its nodes may come back. Those of a simulation would do the same again."""


@dataclass(frozen=True)
class RunSettings:
    """What a run is asked to do.

    Args:
        seed: keys every random stream.
        lora: as the settings have it; so are `train` and `server`.
        config: hash of the settings that the plan came from.
        quorum: fewest updates that make a round.
        attempts: how often a round is tried before the run stops.
    """

    seed: int
    lora: LoraSettings
    train: Train
    server: Server
    config: str
    quorum: int = 1
    attempts: int = 1

    def training(self, number: int) -> Training:
        """How every client trains in round `number`."""
        return Training(
            learning_rates(self.train, number),
            self.train.batch,
            self.train.accumulate,
            self.train.clip,
            self.lora.dropout,
            self.train.checkpointing,
            self.seed,
            number,
        )

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """Return the server's part of a recipe."""
        return cls(recipe.seed, recipe.lora, recipe.train, recipe.server, config_hash(recipe))

    @classmethod
    def from_server_file(cls, file: ServerFile) -> Self:
        """Return the settings of a deployment."""
        train = Train(rounds=file.rounds, **asdict(file.train))
        server = Server(cohort=file.cohort, **asdict(file.server))
        return cls(file.seed, file.lora, train, server, config_hash(file), file.quorum, ATTEMPTS)


def learning_rates(train: Train, number: int) -> tuple[float, ...]:
    """One rate for each optimizer step of round `number`, counted from 1."""
    total = train.rounds * train.steps
    first = (number - 1) * train.steps
    return tuple(
        train.lr * _decay(train.schedule, (first + step) / total) * min(1.0, (step + 1) / (train.warmup + 1))
        for step in range(train.steps)
    )


def _decay(schedule: str, done: float) -> float:
    if schedule == "cosine":
        return 0.5 * (1 + cos(pi * done))
    return 1 - done if schedule == "linear" else 1.0
