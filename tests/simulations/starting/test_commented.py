"""Commented files in which keys are set."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import simulations.starting
from common.settings.reader import parse_settings
from common.settings.recipe import Data, Recipe
from simulations.starting.commented import filled

TEMPLATE = Path(simulations.starting.__path__[0]) / "recipe.toml"
TEXT = 'a = "x"                         # first\n#b = 3                          # second\n\n[t]\n#a = ["y"] # third\n'


def test_a_key_is_set_in_its_own_table_and_keeps_its_comment():
    text = filled(TEXT, {("t", "a"): ("p", "q"), ("", "b"): 4, ("", "a"): None})
    assert tomllib.loads(text) == {"b": 4, "t": {"a": ["p", "q"]}}
    assert text.splitlines()[1] == "b = 4                           # second"
    assert text.splitlines()[0].startswith("#a = ")


def test_without_values_nothing_changes():
    assert filled(TEXT, {}) == TEXT


@pytest.mark.parametrize("value", ['"', "\\", "# no comment", "\x7f", "é\n", "]"])
def test_any_text_is_read_again_as_it_was(value):
    text = filled(TEXT, {("", "a"): value, ("t", "a"): [value, value]})
    assert tomllib.loads(text) == {"a": value, "t": {"a": [value, value]}}


def test_a_value_longer_than_its_place_stays_apart_from_its_comment():
    assert f'"{"x" * 50}" # first' in filled(TEXT, {("", "a"): "x" * 50})


def test_an_unknown_key_is_a_fault():
    with pytest.raises(KeyError):
        filled(TEXT, {("t", "b"): 1})


def test_the_recipe_shows_every_key_of_the_rows():
    whole = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", TEMPLATE.read_text())
    assert {each.name for each in fields(Data)} - tomllib.loads(whole)["data"].keys() == {"corpus"}


def test_the_recipe_shows_only_keys_that_exist():
    """With each of them set, it is a recipe."""
    whole = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", TEMPLATE.read_text())
    recipe = parse_settings(Recipe, tomllib.loads(whole), "whole")
    assert parse_settings(Recipe, tomllib.loads(TEMPLATE.read_text()), "plain").base.dtype == "auto"
    assert {each.name for each in fields(Recipe)} == tomllib.loads(whole).keys()
    assert recipe.data.test_rows == 500
