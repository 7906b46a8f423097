"""One trial: a method trained on the rows that its arm names, and measured on test and validation rows."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from client.model.base_model import BaseModel
from client.node import LocalNode
from client.objectives.examples import Examples, subset
from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors
from common.errors import ConfigError, ModelError, RunError
from common.planning.ranks import trained_parameters
from common.protocol.assignment import Training
from common.seeding import rng
from common.settings.recipe import Recipe
from common.settings.resume import config_hash
from server.rounds.run_settings import RunSettings
from simulations.results.nodes import Nodes
from simulations.results.rounds import train_rounds
from simulations.results.score import Score, score, score_model
from simulations.studies.engine.central import train_centrally
from simulations.studies.engine.outcomes import Outcome, key_of
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Trial
from simulations.studies.methods.attached import Attached, attach
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.own_weights import OwnWeights
from simulations.studies.methods.places import ROLES, projections
from simulations.studies.methods.together import inserted_tokens


def trial_key(setting: Setting, trial: Trial) -> str:
    """Return the key of a trial's outcome: by arm, recipe, rows and base, and not by the arm's other rates."""
    own = replace(trial, arm=replace(trial.arm, rates=()))
    return key_of(f"{trial.arm.name}-{trial.seed}", [own, config_hash(_recipe(setting, trial)), *setting.content])


def check_places(setting: Setting, arms: Sequence[Arm]) -> None:
    """Check that the base has a place for the method of each arm.

    Raises:
        ModelError: it has none for one of them, or too few positions for what one inserts.
    """
    nodes = setting.nodes()
    rows = *(node.train for node in nodes.nodes.values()), nodes.test, nodes.valid
    longest = max(int(each.lengths.max()) for each in rows if len(each))
    for arm in arms:
        attach(arm.method, setting.base, setting.recipe().lora, 1)
        _check_positions(setting.base, arm, longest)


def _check_positions(base: BaseModel, arm: Arm, longest: int) -> None:
    tokens = inserted_tokens(arm.method)
    if tokens and base.positions and longest + tokens > base.positions:
        raise ModelError(
            f"{arm.name} inserts {tokens} tokens into rows of up to {longest}, and {base.folder} has {base.positions} "
            f"positions; set data.max_length to {max(1, base.positions - tokens)} or less, or use a base with more"
        )


def run_trial(setting: Setting, trial: Trial) -> Outcome:
    """Train and measure.

    Raises:
        FedloraError: the arm's method has no place in the base, or the recipe is wrong.
    """
    recipe, of = _recipe(setting, trial), trial.arm.of
    nodes = setting.nodes(trial.seed, _settings(setting, trial), pooled=of == "all")
    return _federate(recipe, nodes, trial) if of == "federation" else _train(recipe, nodes, trial)


def _recipe(setting: Setting, trial: Trial) -> Recipe:
    recipe = setting.recipe(trial.seed, _settings(setting, trial))
    return replace(recipe, train=replace(recipe.train, lr=trial.rate))


def _settings(setting: Setting, trial: Trial) -> tuple[str, ...]:
    """Return the overrides of a trial; in a federation of clients, also their targets and rank, which the base allows.

    An arm with targets of its own keeps them.
    """
    method, own = trial.arm.method, trial.arm.settings
    if trial.arm.of != "federation" or not isinstance(method, LowRank):
        return own
    rank = min(method.rank, setting.base.model.config.get_text_config().hidden_size)
    return f"lora.targets={json.dumps(method.targets(setting.base))}", f"clients.ranks=[{rank}]", *own


def central_training(recipe: Recipe) -> Training:
    """Return the settings of central training: as many steps as one client makes, in one course of the rate."""
    train = recipe.train
    once = replace(train, rounds=1, steps=train.rounds * train.steps)
    return RunSettings.from_recipe(replace(recipe, train=once)).training(1)


def _train(recipe: Recipe, nodes: Nodes, trial: Trial) -> Outcome:
    node, arm = _node(nodes, trial.arm.of), trial.arm
    rows = node.train if arm.rows is None else sample_rows(node.train, arm.rows, trial.seed)
    attached = attach(arm.method, node.base, recipe.lora, trial.seed)
    began = time.monotonic()
    loss = train_centrally(attached, rows, central_training(recipe))
    seconds = time.monotonic() - began
    update = _update(arm.method, attached, node.base) if arm.keeps else Adapter()
    scores = score_model(attached.model, nodes.test), score_model(attached.model, nodes.valid)
    return _outcome(trial, attached.count, *scores, loss, seconds, update)


def sample_rows(rows: Examples, count: int, seed: int) -> Examples:
    """Return so many rows, drawn from all, in their order; a larger number has those of a smaller one too."""
    return subset(rows, rng(seed, "sample").permutation(len(rows))[:count])


def _node(nodes: Nodes, of: object) -> LocalNode:
    own = list(nodes.nodes.values())
    if not isinstance(of, int):
        return own[0]
    if of >= len(own):
        raise ConfigError(
            f"[clients] count = {len(own)}: the study trains client {of + 1}; set count to {of + 1} or more"
        )
    return own[of]


def _update(method: object, attached: Attached, base: BaseModel) -> Adapter:
    """Return the update of each projection: A and B, or the difference of the weights beside a unit matrix."""
    if not isinstance(method, OwnWeights):
        return attached.adapter
    names = [name for role in ROLES for name in projections(base, role)]
    return Adapter({name: _difference(attached.model.base.model, base.model, name) for name in names})


def _difference(after: nn.Module, before: nn.Module, name: str) -> Factors:
    new, old = (model.get_parameter(f"{name}.weight").detach().float() for model in (after, before))
    difference = (new - old).cpu()
    if not isinstance(before.get_submodule(name), nn.Linear):  # Conv1D holds (k, d).
        difference = difference.t()
    return Factors(difference.new_ones(difference.shape[1]).diag().numpy(), difference.numpy())


def _federate(recipe: Recipe, nodes: Nodes, trial: Trial) -> Outcome:
    """Train adapters by the clients of the recipe and its rule."""
    if not isinstance(trial.arm.method, LowRank):
        raise ConfigError(f"{trial.arm.name} is trained centrally: what leaves a node of a federation is A and B")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trained = train_rounds(recipe, nodes, Path(folder))[0]
    seconds, node, update = time.monotonic() - began, next(iter(nodes.nodes.values())), trained.update
    own = Adapter({name: each for name, each in update.items() if name not in {head.name for head in node.base.head}})
    count = trained_parameters({name: trained.ranks[name] for name in own}, own.shapes)
    test, valid = score(node, update, nodes.test), score(node, update, nodes.valid)
    return _outcome(trial, count, test, valid, None, seconds, own if trial.arm.keeps else Adapter())


def check_update(trial: Trial, update: Adapter) -> None:
    """Check that an update that is kept is one that can be measured.

    Raises:
        RunError: it is zero, or has numbers that are none.
    """
    if any(not (np.isfinite(f.a).all() and np.isfinite(f.b).all()) for f in update.values()):
        raise RunError(f"{trial.arm.name}: training at the rate {trial.rate:g} diverged; set a lower train.lr")
    if not any(lowrank.norm(factors) for factors in update.values()):
        raise RunError(
            f"{trial.arm.name}: training at the rate {trial.rate:g} has moved nothing; train longer, by "
            "train.rounds or train.steps, or set a lower train.lr if its gradients are no numbers"
        )


def _outcome(
    trial: Trial, count: int, test: Score, valid: Score, loss: float | None, seconds: float, update: Adapter
) -> Outcome:
    if trial.arm.keeps:
        check_update(trial, update)
    measured = test.right, test.loss, valid.right, valid.loss, loss, round(seconds, 1)
    return Outcome(trial.arm.name, trial.rate, trial.seed, count, *measured, update)
