"""Settings of a run, from a recipe or from a deployment's own file, and the algorithm that they make."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Self

from common.errors import ConfigError, JournalError
from common.hash_chain import Entry
from common.planning.budget import budget_parameters, is_share
from common.planning.ranks import check_budget
from common.protocol.assignment import Training
from common.settings.recipe import LoraSettings, Recipe, Server, Train
from common.settings.resume import config_hash
from common.settings.server import ServerFile
from common.settings.tasks import SINGLE
from server.algorithms import Algorithm, AlgorithmSettings, create_algorithm
from server.algorithms.optimizer import scheduled_rate
from server.algorithms.weighting import Limit
from server.planning.planner import Planner, planned_shapes
from server.rounds.participants import RunModel

Trainings = Mapping[str, Training]
"""The settings of each client, by name."""
ATTEMPTS = 3
"""Attempts at a round in a deployment: its nodes may come back. Those of a simulation would fail the same way."""

SETTLE = 30.0
"""Seconds that a deployment waits for nodes that still load: those that start together take part together."""


@dataclass(frozen=True)
class RunSettings:
    """The settings that the rounds of a run need.

    Args:
        seed: keys every random stream.
        lora: a section of the original settings, like `train` and `server`.
        config: hash of the original settings.
        quorum: fewest updates for a round.
        attempts: number of tries at a round before the run stops; one for which too few nodes were there is none.
        patience: seconds to wait where fewer than `quorum` nodes are ready.
        grace: seconds for a node that neither answers nor reports, once enough others have; None for the default.
        name: of a deployment's run, by which its nodes save what it ends with.
        settle: seconds to wait before the first round for connected nodes that still load, once enough are ready.
    """

    seed: int
    lora: LoraSettings
    train: Train
    server: Server
    config: str
    quorum: int = 1
    attempts: int = 1
    patience: float = 0.0
    settle: float = inf
    grace: float | None = None
    name: str = ""

    def training(self, number: int) -> Training:
        """Return the training settings of every client in round `number`."""
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

    def exchange(
        self, number: int, rows: Mapping[str, int], limit: Limit, begun: Mapping[str, int], drawn: int
    ) -> Trainings:
        """Return the settings of each client for an exchange of gradients, by name.

        Rows are drawn in proportion to `rows`, those of each client; `[train] batch` is the mean. A client reads no
        more than its limit in the roster, and goes on in its epochs after the rows that it has `begun`. The rate that
        it is told is that of the server's step, whose warm-up began after round `drawn`.
        """
        rate = scheduled_rate(self.train, (number - 1) / self.train.rounds, number - 1 - drawn)
        common = replace(self.training(number), learning_rates=(rate,) * self.train.steps)
        mean = common.rows // self.train.steps
        share = len(rows) * mean / max(sum(rows.values()), 1)
        draws = {name: max(1, round(share * own)) for name, own in rows.items()}
        most = {name: own // self.train.steps for name in rows if (own := limit(name)) is not None}
        return {
            name: replace(common, draw=max(1, min(draw, most.get(name, draw))), begin=begun.get(name, 0))
            for name, draw in draws.items()
        }

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Self:
        """Return the server's part of a recipe."""
        return cls(recipe.seed, recipe.lora, recipe.train, recipe.server, config_hash(recipe))

    @classmethod
    def from_server_file(cls, file: ServerFile) -> Self:
        """Return the settings of a deployment."""
        train = Train(rounds=file.rounds, **asdict(file.train))
        server = Server(cohort=file.cohort, **asdict(file.server))
        waits = file.quorum, ATTEMPTS, file.patience or inf, SETTLE, file.grace
        return cls(file.seed, file.lora, train, server, config_hash(file), *waits, file.run)


def learning_rates(train: Train, number: int) -> tuple[float, ...]:
    """Return one rate for each optimizer step of round `number`, counted from 1."""
    total = train.rounds * train.steps
    first = (number - 1) * train.steps
    return tuple(scheduled_rate(train, (first + step) / total, step) for step in range(train.steps))


def algorithm_of(settings: RunSettings, model: RunModel) -> Algorithm:
    """Make the algorithm of a run.

    Raises:
        ConfigError: it does not support the settings.
    """
    head = frozenset(module.name for module in model.description.head)
    last = next((module.name for module in model.description.head if module.last), "")
    if settings.lora.head != "trained" and (kind := model.description.problem_type) != SINGLE:
        raise ConfigError(
            f'[lora] head = "{settings.lora.head}" is made of sums of features by class, and with problem_type = '
            f'"{kind}" rows have not one class each; set head = "trained"'
        )
    if settings.lora.head != "trained" and not last:
        raise ConfigError(
            f'[lora] head = "{settings.lora.head}" makes a new classification head, and this base and task have none; '
            'set head = "trained"'
        )
    own = settings.lora, settings.server, head, settings.train, last, model.ranks
    return create_algorithm(AlgorithmSettings(settings.seed, (model.max_rank,), *own))


def planner_of(settings: RunSettings, model: RunModel) -> Planner | None:
    """Return what makes the plan of a run; None if it has no budget, or a plan.

    Raises:
        ConfigError: the budget is too small, and no share of the base's parameters, which only nodes can count.
    """
    if settings.lora.budget is None or model.ranks:
        return None
    if not is_share(settings.lora.budget):
        parameters = budget_parameters(settings.lora.budget, 0)
        check_budget(parameters, planned_shapes(model.description), settings.lora.budget)
    largest = settings.server.rank_shared or model.max_rank
    return Planner(settings.lora.budget, largest, settings.quorum, settings.training(1), settings.train.lr)


def check_first(entries: Sequence[Entry], settings: RunSettings, model: RunModel) -> None:
    """Check that the first line of a journal, if there is one, is of these settings and this base.

    Raises:
        JournalError: it is not.
    """
    if not entries:
        return
    first, base = entries[0], model.description.fingerprint
    if first["config"] != settings.config:
        raise JournalError(
            f"the run began with settings {first['config']}, but these are {settings.config}; use those of the run"
        )
    if first["base"] != base:
        raise JournalError(
            f"the run's base, tokenizer, targets or labels have fingerprint {first['base']}, but [base] is {base}; "
            "name the base that the run began with"
        )
