"""Plans from recipes and from a server's own file."""

import pytest

from common.settings.reader import parse_settings
from common.settings.recipe import Recipe, Rule, Steps
from common.settings.resume import config_hash
from common.settings.server import ServerFile
from server.rounds.run_settings import RunSettings
from tests.helpers.common.recipes import with_keys

LEAST = {"project": "cardio", "run": "first", "rounds": 4}
RECIPE = parse_settings(Recipe, with_keys(train={"rounds": 4, "steps": 3}, server={"cohort": 3}, seed=5), "recipe")


def file_with(**keys):
    return parse_settings(ServerFile, LEAST | keys, "server.toml")


def test_a_plan_is_the_servers_part_of_a_recipe():
    plan = RunSettings.from_recipe(RECIPE)
    assert (plan.seed, plan.lora, plan.train, plan.server) == (5, RECIPE.lora, RECIPE.train, RECIPE.server)
    assert plan.config == config_hash(RECIPE)
    assert (plan.quorum, plan.attempts) == (1, 1)


def test_a_deployments_plan_is_that_of_a_recipe_with_the_same_settings():
    file = file_with(cohort=3, quorum=3, seed=5, train={"steps": 3})
    plan, same = RunSettings.from_server_file(file), RunSettings.from_recipe(RECIPE)
    assert (plan.seed, plan.lora, plan.train, plan.server) == (same.seed, same.lora, same.train, same.server)
    assert [plan.training(number) for number in (1, 4)] == [same.training(number) for number in (1, 4)]
    assert (plan.config, plan.quorum, plan.attempts) == (config_hash(file), 3, 3)


@pytest.mark.parametrize(
    "keys", [{"listen": "10.0.0.5:1"}, {"folder": "x"}, {"keys": "k"}, {"quorum": 3}, {"deadline": 1.5}]
)
def test_what_changes_no_bit_may_change_on_the_way(keys):
    assert config_hash(file_with(**keys)) == config_hash(file_with())


@pytest.mark.parametrize("keys", [{"run": "second"}, {"project": "other"}, {"seed": 1}, {"train": {"lr": 0.5}}])
def test_anything_else_makes_another_run(keys):
    assert config_hash(file_with(**keys)) != config_hash(file_with())


def test_a_file_has_defaults_that_wait_for_two_nodes():
    file = file_with()
    assert (file.quorum, file.cohort, file.train, file.server) == (2, None, Steps(), Rule())
