from pathlib import Path

import pytest
import tomli_w

from common.errors import ConfigError
from common.settings.reader import parse_settings, read_toml, to_tables
from common.settings.resume import config_hash
from server.algorithms import ALGORITHMS
from simulations.corpora import CORPORA
from simulations.recipe import base_path, read_recipe
from tests.helpers.end_to_end.command import ROOT, TINY

RECIPES = sorted((ROOT / "simulations" / "recipes").glob("*.toml"))


@pytest.fixture
def recipe(tmp_path):
    """Return a function that writes a recipe with this base and these rows."""

    def write(base="base", rows="rows.jsonl"):
        tables = {"base": {"path": base}, "data": {"path": rows}, "clients": {"count": 2}, "train": {"rounds": 1}}
        file = tmp_path / "recipes" / "own.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(tomli_w.dumps(tables))
        return file

    return write


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_that_comes_along_can_be_read(file):
    recipe = read_recipe(file, [])
    assert recipe.data.corpus in CORPORA
    assert recipe.server.algorithm in ALGORITHMS
    assert recipe.base.path.startswith(("tiny:", "package:"))


def test_the_recipes_are_found():
    assert {file.stem for file in RECIPES} >= {"tiny", "docs"}


def test_paths_in_a_recipe_are_relative_to_it(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    read = read_recipe(recipe("../models/base", "rows.jsonl"), [])
    assert Path(read.base.path).resolve() == tmp_path / "models" / "base"
    assert Path(read.data.path).resolve() == tmp_path / "recipes" / "rows.jsonl"


def test_paths_on_the_command_line_are_relative_to_where_one_stands(recipe, tmp_path, monkeypatch):
    file = recipe()
    monkeypatch.chdir(tmp_path)
    read = read_recipe(file, ["base.path=mine", "data.path=own/rows.csv"])
    assert Path(read.base.path) == tmp_path / "mine"
    assert Path(read.data.path) == tmp_path / "own" / "rows.csv"


def test_absolute_paths_and_home_stay(recipe, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    read = read_recipe(recipe("/models/base", "~/rows.jsonl"), [])
    assert (read.base.path, read.data.path) == ("/models/base", "/home/somebody/rows.jsonl")


@pytest.mark.parametrize("base", ["tiny:bert", "package:some_package/model"])
def test_bases_that_are_no_paths_stay(recipe, base):
    assert read_recipe(recipe(base), []).base.path == base
    assert read_recipe(recipe(), [f"base.path={base}"]).base.path == base


def test_a_tiny_base_becomes_its_folder():
    assert (Path(base_path("tiny:bert")) / "model.safetensors").is_file()
    assert base_path("/models/base") == "/models/base"
    with pytest.raises(ConfigError, match="'bert'"):
        base_path("tiny:bret")


def test_settings_override_the_file_one_after_the_other():
    read = read_recipe(TINY, ["train.lr=0.5", "clients.ranks=[2, 2]", "lora.targets=query", "train.lr=0.25"])
    assert (read.train.lr, read.clients.ranks, read.lora.targets) == (0.25, (2, 2), "query")
    assert read.train.steps == read_recipe(TINY, []).train.steps


def test_what_a_run_writes_reads_back_as_the_same_recipe(tmp_path):
    read = read_recipe(TINY, ['lora.targets=["query", "value"]', "server.rank_global=4"])
    (tmp_path / "config.toml").write_text(tomli_w.dumps(to_tables(read)))
    again = parse_settings(type(read), read_toml(tmp_path / "config.toml"), "config.toml")
    assert again == read
    assert config_hash(again) == config_hash(read) != config_hash(read_recipe(TINY, []))
