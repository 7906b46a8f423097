from dataclasses import fields

import pytest

from common.settings.node import Node, NodeFile, Policy
from common.settings.reader import parse_settings, to_tables
from common.settings.recipe import Base, Recipe
from common.settings.resume import config_hash
from common.settings.tasks import TASKS, RowSettings
from tests.helpers.common.recipes import LEAST, error_of, with_keys

NODE = {"name": "clinic-1", "rank": 4, "base": "base", "data": "rows.csv"}
KEYS = {field.name for field in fields(RowSettings)}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_reads_keys_that_exist(name):
    task = TASKS[name]
    assert task.columns
    assert {*task.columns, *task.shared} <= KEYS


def test_a_task_that_does_not_exist_is_told_with_the_nearest():
    message = "no such task; did you mean 'causal-lm'?"
    assert error_of(with_keys(data={"task": "causal_lm"})) == f"r.toml: [data] task = 'causal_lm': {message}"
    assert error_of(NODE | {"task": "causal_lm"}, NodeFile) == f"r.toml: task = 'causal_lm': {message}"


def test_a_nodes_file_holds_base_and_data_as_values_and_gives_them_back():
    tables = NODE | {"task": "causal-lm", "text": "body", "max_length": 9, "dtype": "bfloat16", "labels": ["a", "b"]}
    file = parse_settings(NodeFile, tables | {"policy": {"max_rank": 3}}, "client.toml")
    node = file.to_node()
    assert isinstance(node, Node)
    assert (node.base, node.policy) == (Base("base", "bfloat16"), Policy(max_rank=3))
    assert (node.data.path, node.data.text, node.data.max_length, node.data.labels) == (
        "rows.csv",
        "body",
        9,
        ("a", "b"),
    )
    assert NodeFile.from_node(node) == file
    assert to_tables(file) == to_tables(parse_settings(NodeFile, to_tables(file), "again.toml"))


def test_settings_without_the_keys_of_later_tasks_have_the_hash_of_the_first_release():
    """Shares and norms had no bound then, A had no term and weights had one default, which is not so any more."""
    before = {"server": {"max_share": 1.0, "norm_bound": 0.0, "hold": "never", "weights": "examples"}}
    recipe = parse_settings(Recipe, LEAST | before, "r.toml")
    other = parse_settings(Recipe, with_keys(data={"beta": 0.2}) | before, "r.toml")
    assert config_hash(recipe) == "b2622eeb1629945d79d27b8ce1a7c6c2d2a0bbd585ccb39e4954c02d7a7dee5f"
    assert config_hash(other) != config_hash(recipe)  # control


@pytest.mark.parametrize("name", ["klingon", "hex", "rot13", "", "utf-8\0"])
def test_found_D4_an_unknown_encoding_is_refused_by_its_name(name):
    text = error_of({**NODE, "encoding": name}, NodeFile)
    assert "encoding" in text and "no such encoding of text" in text and repr(name) in text


@pytest.mark.parametrize("name", ["latin-1", "cp1252", "UTF-16", "utf_16_le", "shift_jis"])
def test_a_known_encoding_is_taken(name):
    assert parse_settings(NodeFile, {**NODE, "encoding": name}, "n.toml").encoding == name


@pytest.mark.parametrize("key", [{"encoding": "utf-8"}, {"skip_bad_rows": False}])
def test_what_earlier_runs_did_without_the_key_has_their_hash(key):
    plain, told = (parse_settings(Recipe, with_keys(data=keys), "r.toml") for keys in ({}, key))
    other = parse_settings(Recipe, with_keys(data={"encoding": "latin-1"}), "r.toml")
    assert config_hash(plain) == config_hash(told) != config_hash(other)
