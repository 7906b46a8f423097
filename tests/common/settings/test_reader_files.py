"""Recipes on their way in and out: TOML files, `--set`, and the hash of what was resolved."""

import tomllib
import tracemalloc

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigError
from common.settings.reader import override, parse_settings, read_toml, to_tables, user_path
from common.settings.recipe import Recipe
from common.settings.resume import config_hash
from tests.helpers.common.recipes import LEAST, error_of, with_keys


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("train.rounds=7", "train", "rounds", 7),
        (" train.rounds = 7 ", "train", "rounds", 7),
        ("train.lr=1e-4", "train", "lr", 1e-4),
        ("train.checkpointing=true", "train", "checkpointing", True),
        ("clients.ranks=[2, 4]", "clients", "ranks", [2, 4]),
        ("lora.targets=all-linear", "lora", "targets", "all-linear"),
        ('lora.targets="a=b"', "lora", "targets", "a=b"),
        ("lora.targets=.*q=v", "lora", "targets", ".*q=v"),
        ("base.path=~/models/a b", "base", "path", "~/models/a b"),
        ("server.cohort=3", "server", "cohort", 3),
    ],
)
def test_set_reads_toml_and_takes_anything_else_as_a_word(assignment, section, key, value):
    changed = override(LEAST, [assignment])
    assert changed[section][key] == value
    assert type(changed[section][key]) is type(value)
    assert {name: table for name, table in changed.items() if name != section} == {
        name: table for name, table in LEAST.items() if name != section
    }


def test_set_leaves_the_tables_it_was_given_and_the_last_wins():
    assert override(LEAST, ["train.rounds=7", "seed=5", "train.rounds=8"]) == LEAST | {
        "train": {"rounds": 8},
        "seed": 5,
    }
    assert LEAST["train"] == {"rounds": 2}


@pytest.mark.parametrize("assignment", ["train.rounds", "=3", " =3", "train.rounds.deep=3"])
def test_set_without_key_and_value_is_refused(assignment):
    with pytest.raises(ConfigError, match="--set") as caught:
        override(LEAST, [assignment])
    assert repr(assignment) in str(caught.value)


def test_a_misspelt_set_is_caught_when_the_recipe_is_parsed():
    assert "did you mean 'rounds'" in error_of(override(LEAST, ["train.ruonds=3"]))


recipes = st.builds(
    lambda ranks, targets, alpha, lr, path, cohort, seed: with_keys(
        clients={"ranks": ranks},
        lora={"targets": targets, "alpha": alpha},
        train={"lr": lr},
        base={"path": path},
        server={"cohort": cohort},
        seed=seed,
    ),
    st.lists(st.integers(1, 99), min_size=1, max_size=4),
    st.one_of(st.text(min_size=1), st.lists(st.text(), min_size=1, max_size=3)),
    st.one_of(st.just("rank"), st.floats(1e-3, 1e3)),
    st.floats(1e-9, 1e9),
    st.text(),
    st.none() | st.integers(1, 99),
    st.integers(0, 2**40),
)


@given(recipes)
def test_a_recipe_written_as_toml_is_read_back_equal(tables):
    recipe = parse_settings(Recipe, tables, "r.toml")
    again = parse_settings(Recipe, tomllib.loads(tomli_w.dumps(to_tables(recipe))), "again.toml")
    assert again == recipe
    assert config_hash(again) == config_hash(recipe)


def _hash(*assignments):
    return config_hash(parse_settings(Recipe, override(LEAST, list(assignments)), "r.toml"))


def test_workers_alone_do_not_change_the_hash():
    assert _hash("workers=9") == _hash()
    others = ["seed=1", "threads=2", "train.lr=0.5", "lora.alpha=8", "clients.ranks=[8, 8]", "server.cohort=3"]
    assert len({_hash(), *map(_hash, others)}) == len(others) + 1


def test_a_default_written_out_is_the_same_recipe():
    assert _hash("train.steps=10", "lora.targets=query-value") == _hash()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*r\.toml: No such file.*give the path of a TOML file"):
        read_toml(tmp_path / "r.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_toml(tmp_path)


@pytest.mark.parametrize("content", [b"[train\n", b"x = \xff\xfe", b"x = 1\nx = 2"])
def test_a_file_that_is_not_toml_is_named(content, tmp_path):
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"r\.toml is not valid TOML: .*; fix that line"):
        read_toml(tmp_path / "r.toml")


def test_a_file_is_read_as_tables(tmp_path):
    (tmp_path / "r.toml").write_text('seed = 3\n[base]\npath = "é"\n', encoding="utf-8")
    assert read_toml(tmp_path / "r.toml") == {"seed": 3, "base": {"path": "é"}}


@pytest.mark.parametrize(
    "text",
    [
        "seed = " + "1" * 5000,
        "seed = 0x" + "f" * 5000,
        "a = " + "[" * 5000 + "]" * 5000,
        ".".join("a" * 5000) + " = 1",
        "[" + ".".join(["'a b'"] * 300) + "]",
    ],
)
def test_a_number_or_key_without_bounds_is_an_error_of_ours(text, tmp_path):
    (tmp_path / "r.toml").write_text(text)
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"r\.toml"):
        parse_settings(Recipe, read_toml(tmp_path / "r.toml"), "r.toml")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_home_folder_of_nobody_is_an_error_of_ours():
    assert user_path("~/x").is_absolute()
    with pytest.raises(ConfigError, match="whole path"):
        user_path("~nobody-of-this-name/x")
