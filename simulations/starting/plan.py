"""`fedlora plan`: the rank of each module under a budget, as the clients of a recipe agree on it, shown as a page."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from client.checking.page import plain, section, table
from client.node import LocalNode
from client.questions.module_energies import base_parameters
from common.adapters.adapter import Shapes
from common.errors import ConfigError
from common.settings.recipe import Recipe
from server.planning.plan import Plan
from simulations.plan import make_plan
from simulations.recipe import read_recipe
from simulations.results.nodes import Nodes, load_nodes


def plan_recipe(file: Path, budget: str | None, targets: str | None, assignments: list[str]) -> None:
    """Make the plan of a recipe, and print it with the command that trains by it. Nothing is written.

    Args:
        file: the recipe.
        budget: in place of the recipe's [lora] budget.
        targets: modules that may be adapted, as in TOML, in place of those of `assignments`; `all-linear` if neither
            names any.
        assignments: each `KEY.KEY=VALUE`.

    Raises:
        FedloraError: the budget or another setting is wrong.
    """
    own = _assignments(budget, targets, assignments)
    recipe = read_recipe(file, own)
    if recipe.lora.budget is None:
        raise ConfigError(f"{file} has no [lora] budget; give one, for example --budget 0.1%")
    torch.set_num_threads(recipe.threads)
    nodes = load_nodes(recipe, 0)
    plan = _agree(recipe, nodes)
    _show(recipe, nodes.nodes, plan, nodes.model.shapes)
    words = [word for each in own for word in ("--set", each)]
    print(f"train with it: {shlex.join(['fedlora', 'simulate', str(file), *words])}")


def _assignments(budget: str | None, targets: str | None, assignments: list[str]) -> list[str]:
    """Return the assignments with budget and targets; a recipe's own targets are those of a run without a budget."""
    named = any(each.partition("=")[0].strip() == "lora.targets" for each in assignments)
    given = {"lora.budget": budget, "lora.targets": targets or (None if named else "all-linear")}
    return [*assignments, *(f"{key}={value}" for key, value in given.items() if value is not None)]


def _agree(recipe: Recipe, nodes: Nodes) -> Plan:
    """Return the plan, with a bar of clients while it is made."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("clients", total=len(nodes.nodes))
        plan = make_plan(recipe, nodes.model, nodes.nodes, done=lambda name: bar.advance(task))
    assert plan is not None
    return plan


def _show(recipe: Recipe, nodes: Mapping[str, LocalNode], plan: Plan, shapes: Shapes) -> None:
    console, total = Console(highlight=False), base_parameters(next(iter(nodes.values())).base)
    found = table("module", "d", "k", "gradient", "rank", "parameters")
    for name, rank in plan.ranks.items():
        own = (*map(str, shapes[name]), f"{plan.energies[name] ** 0.5:.3f}", str(rank), f"{rank * sum(shapes[name]):,}")
        found.add_row(*map(plain, (name, *own)), style="" if rank else "dim")
    section(console, "Ranks", found)
    adapted = f"{sum(map(bool, plan.ranks.values()))} of {len(plan.ranks)} modules"
    print(
        f"{recipe.lora.budget} of a base of {total:,} parameters allows {plan.budget:,}; {adapted} "
        f"have {plan.parameters:,}, at ranks of {plan.largest} at most, by the gradients of {len(plan.nodes)} "
        "clients"
    )
