import pytest

from common.settings.node import NodeFile
from common.settings.reader import parse_settings
from common.settings.recipe import LoraSettings, Recipe
from tests.helpers.common.recipes import LEAST, error_of, with_keys

NODE = {"name": "clinic-1", "rank": 4, "base": "base", "data": "rows.csv"}


def test_the_least_recipe_has_the_defaults():
    recipe = parse_settings(Recipe, LEAST, "r.toml")
    assert (recipe.clients.ranks, recipe.lora.targets, recipe.lora.alpha) == ((8,), "query-value", "rank")
    assert (recipe.server.algorithm, recipe.seed, recipe.threads) == ("increments", 0, 1)


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        parse_settings(Recipe, LEAST, "r.toml").seed = 1


@pytest.mark.parametrize(
    ("tables", "key", "value", "rule"),
    [
        (with_keys(train={"rounds": 0}), "[train] rounds", "0", "greater than or equal to 1"),
        (with_keys(train={"steps": 2.5}), "[train] steps", "2.5", "valid integer"),
        (with_keys(train={"lr": 0}), "[train] lr", "0", "greater than 0"),
        (with_keys(train={"lr": float("nan")}), "[train] lr", "nan", "finite number"),
        (with_keys(train={"lr": float("inf")}), "[train] lr", "inf", "finite number"),
        (with_keys(train={"clip": -1}), "[train] clip", "-1", "greater than or equal to 0"),
        (with_keys(train={"schedule": "step"}), "[train] schedule", "'step'", "'constant', 'linear' or 'cosine'"),
        (with_keys(train={"checkpointing": 1}), "[train] checkpointing", "1", "valid boolean"),
        (with_keys(lora={"dropout": 1.0}), "[lora] dropout", "1.0", "less than 1"),
        (with_keys(lora={"alpha": 0}), "[lora] alpha", "0", "greater than 0"),
        (with_keys(lora={"alpha": "rnak"}), "[lora] alpha", "'rnak'", "'rank'"),
        (with_keys(lora={"targets": []}), "[lora] targets", "[]", "at least 1 item"),
        (with_keys(clients={"ranks": [4, 0]}), "[clients] ranks", "0", "greater than or equal to 1"),
        (with_keys(clients={"ranks": 8}), "[clients] ranks", "8", "write a list, as in [4, 8]"),
        (with_keys(base={"dtype": "float31"}), "[base] dtype", "'float31'", "'float16', 'nf4' or 'int8'"),
        (with_keys(base=3), "base", "3", "object"),
        (with_keys(seed=-1), "seed", "-1", "greater than or equal to 0"),
        (with_keys(seed=True), "seed", "True", "valid integer"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_the_rule(tables, key, value, rule):
    assert any(line.startswith(f"r.toml: {key} = {value}: ") and rule in line for line in error_of(tables).splitlines())


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (with_keys(train={"round": 3}), "unknown key [train] round; did you mean 'rounds'"),
        (with_keys(tarin={}), "unknown key tarin; did you mean 'train'"),
        (with_keys(lora={"alhpa": 8}), "unknown key [lora] alhpa; did you mean 'alpha'"),
        (with_keys(lora={"zzz": 8}), "unknown key [lora] zzz; known: alpha, budget, dropout, head, targets"),
        (with_keys(train={"rounds": None}), "[train] rounds is missing; add it"),
        ({key: LEAST[key] for key in ("base", "data", "clients")}, "train is missing; add it"),
        (with_keys(data={"corpus": None}), "set exactly one of [data] corpus and [data] path"),
        (with_keys(data={"path": "rows.csv"}), "set exactly one of [data] corpus and [data] path"),
        (with_keys(data={"a" * 300: {"b": 1}}), "a key of 300 characters that begins with 'aaaa"),
    ],
)
def test_an_unknown_missing_or_clashing_key_comes_with_the_remedy(tables, message):
    assert error_of(tables).startswith("r.toml")
    assert message in error_of(tables)


def test_every_fault_is_told_at_once():
    lines = error_of(with_keys(train={"rounds": 0, "batch": -2}, lora={"dropuot": 0.1})).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("r.toml: ") for line in lines)


@pytest.mark.parametrize("name", ["", "-x", "a b", "../x", "x" * 65, "é"])
def test_a_nodes_name_is_safe_in_a_path(name):
    assert error_of(NODE | {"name": name}, NodeFile).startswith(f"r.toml: name = {name!r}: ")
    assert parse_settings(NodeFile, NODE | {"name": "x" * 64}, "client.toml").rank == 4


def test_scaling_is_alpha_over_rank_and_one_by_default():
    assert [LoraSettings().scaling(r) for r in (1, 8)] == [1.0, 1.0]
    assert [LoraSettings(alpha=16.0).scaling(r) for r in (1, 8)] == [16.0, 2.0]
