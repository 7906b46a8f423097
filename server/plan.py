"""What a run is asked to do, from a recipe or from a deployment's own file."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common.assignment import Training
from common.config import parse, read_toml
from common.errors import ConfigError
from common.resume import config_hash, over_begun
from common.settings import Lora, Recipe, Server, ServerFile, Train
from server.algorithms import known
from server.journal import has_begun
from server.schedule import learning_rates

ATTEMPTS = 3
"""How often a deployment tries a round: its nodes may come back. Those of a simulation would do the same again."""


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do.

    Args:
        seed: keys every random stream.
        lora: as the settings have it; so are `train` and `server`.
        config: hash of the settings that the plan came from.
        quorum: fewest updates that make a round.
        attempts: how often a round is tried before the run stops.
    """

    seed: int
    lora: Lora
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


def plan_of(recipe: Recipe) -> Plan:
    """The server's part of a recipe."""
    return Plan(recipe.seed, recipe.lora, recipe.train, recipe.server, config_hash(recipe))


def plan_of_file(file: ServerFile) -> Plan:
    """The plan of a deployment."""
    train = Train(rounds=file.rounds, **asdict(file.train))
    server = Server(cohort=file.cohort, **asdict(file.server))
    return Plan(file.seed, file.lora, train, server, config_hash(file), file.quorum, ATTEMPTS)


def read_server(file: Path) -> ServerFile:
    """The settings in a server's own file; paths in it are relative to it.

    Where the run in its folder has begun, keys that the file leaves unset are those that the run began with.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
    """
    tables = read_toml(file)
    for section, key in (("train", "rounds"), ("server", "cohort")):
        if isinstance(tables.get(section), dict) and key in tables[section]:
            raise ConfigError(
                f"{file}: [{section}] {key} belongs at the top of a server's file, as {key}; move it there"
            )
    settings = parse(ServerFile, tables, str(file))
    folder = file.parent / Path(settings.folder or f"runs/{settings.run}").expanduser()
    keys = file.parent / Path(settings.keys).expanduser()
    if has_begun(folder / "journal") and (config := folder / "config.toml").is_file():
        settings = over_begun(ServerFile, tables, config)
    known(settings.server.algorithm)
    return replace(settings, folder=str(folder), keys=str(keys))
