"""What all trials of a study share: a recipe, read anew with what a trial overrides, and its base model."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from client.model.base_model import BaseModel
from common.errors import ConfigError
from common.settings.recipe import Data, Recipe
from common.settings.tasks import TASKS
from simulations.prepare import settle_problem_type
from simulations.recipe import read_recipe
from simulations.results.nodes import Nodes, load_nodes

QUICK = "train.rounds=1", "train.steps=12", "train.warmup=2", "data.test_rows=64"
"""Of a quick study, which shows that it runs, and decides nothing."""
FEW = 3
"""Clients of a quick study."""
VALID = 4
"""A validation row, on which rates are chosen, for each so many test rows."""


@dataclass(frozen=True)
class Setting:
    """A recipe and what was asked for.

    Args:
        file: the recipe.
        assignments: overrides, KEY=VALUE.
        seeds: number of seeds, counted from 1.
        quick: few steps and rows.
        federated: adapters are trained by the recipe's clients, by its rule.
    """

    file: Path
    assignments: tuple[str, ...]
    seeds: int
    quick: bool = False
    federated: bool = False

    def recipe(self, seed: int = 1, settings: tuple[str, ...] = ()) -> Recipe:
        """Return the recipe in float32, in which all methods compute, with test and validation rows held out.

        Raises:
            FedloraError: it is wrong, or holds out no test rows.
        """
        return _read(self, seed, settings)

    @property
    def data(self) -> Data:
        """What rows are, with what they have in place of "auto"."""
        return settle_problem_type(self.recipe()).data

    @property
    def rows_of_adapters(self) -> Literal["all", "federation"]:
        """Whose rows adapters are trained on."""
        return "federation" if self.federated else "all"

    @property
    def base(self) -> BaseModel:
        """The recipe's base model."""
        return next(iter(self.nodes().nodes.values())).base

    @property
    def content(self) -> tuple[str, str]:
        """The fingerprint of the base and the hash of all rows, whatever their paths are."""
        nodes = self.nodes()
        return nodes.model.fingerprint, nodes.rows_sha256

    @property
    def is_causal(self) -> bool:
        """Whether rows are learned token by token."""
        return TASKS[self.recipe().data.task].causal

    @property
    def has_biases(self) -> bool:
        """Whether the base has biases that BitFit could train."""
        new = {f"{head.name}.bias" for head in self.base.head}
        names = (name for name, _ in self.base.model.named_parameters())
        return any(name.endswith("bias") and name not in new for name in names)

    @property
    def training_rows(self) -> int:
        """Rows that all clients train on together."""
        return sum(len(node.train) for node in self.nodes().nodes.values())

    def nodes(self, seed: int = 1, settings: tuple[str, ...] = (), pooled: bool = True) -> Nodes:
        """Return the nodes of a trial; pooled, one that has the rows of all."""
        return _load(self.recipe(seed, settings), pooled)


def _quick(setting: Setting) -> tuple[str, ...]:
    """Return the overrides of a quick study; under fedsgd a round is a step, and the first moves a new head alone."""
    fedsgd = read_recipe(setting.file, [*setting.assignments]).server.algorithm == "fedsgd"
    return (*QUICK, "train.rounds=12", "train.steps=1") if fedsgd else QUICK


@lru_cache(maxsize=64)
def _read(setting: Setting, seed: int, settings: tuple[str, ...]) -> Recipe:
    asked = [*(_quick(setting) if setting.quick else ()), *setting.assignments]
    clients = read_recipe(setting.file, asked).clients
    if setting.quick and clients.count and clients.count > FEW:
        asked += [f"clients.count={FEW}", f"clients.ranks={[max(clients.ranks)]}"]
    recipe = read_recipe(setting.file, [*asked, *settings, f"seed={seed}", "base.dtype=float32"])
    _check(setting.file, read_recipe(setting.file, asked))
    test = recipe.data.test_rows
    return replace(recipe, data=replace(recipe.data, test_rows=test + -(-test // VALID)))


def _check(file: Path, recipe: Recipe) -> None:
    """Raise if a study cannot begin or measure as the recipe says."""
    if not recipe.data.test_rows:
        raise ConfigError(
            f"{file}: [data] test_rows = 0, and a study measures on test rows; set test_rows to a number of them"
        )
    if recipe.base.adapter:
        raise ConfigError(
            f"{file}: [base] adapter = {recipe.base.adapter!r}, and the methods of a study all begin at the base; "
            "remove it"
        )
    if recipe.lora.budget:
        raise ConfigError(
            f"{file}: [lora] budget = {recipe.lora.budget!r}, and a study sets the modules and ranks that it compares; "
            "remove it"
        )


@lru_cache(maxsize=2)
def _load(recipe: Recipe, pooled: bool) -> Nodes:
    return load_nodes(recipe, recipe.data.test_rows - recipe.data.test_rows * VALID // (VALID + 1), pooled)
