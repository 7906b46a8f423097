"""Settings of runs that began before a key was there, before a default changed, and with keys that decide nothing."""

from dataclasses import fields, replace
from typing import Annotated

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from common.errors import ConfigError
from common.settings.marks import OPERATIONAL, AddedLater, is_operational
from common.settings.reader import parse_settings, to_tables
from common.settings.recipe import Recipe
from common.settings.resume import (
    Change,
    config_hash,
    decisive_tables,
    find_changes,
    read_run_settings,
    resume_settings,
)
from common.settings.server import ServerFile

STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=STRICT)
class OldTable:
    lr: float = 0.1
    names: tuple[str, ...] = ("q",)


@dataclass(frozen=True, config=STRICT)
class Old:
    """As a run began."""

    rounds: int
    cohort: int | None = None
    port: Annotated[int, OPERATIONAL] = 1
    train: OldTable = OldTable()


@dataclass(frozen=True, config=STRICT)
class Base:
    file: str
    hashed: bool = False


@dataclass(frozen=True, config=STRICT)
class Limits:
    share: Annotated[float | None, AddedLater(before=None)] = 0.5


@dataclass(frozen=True, config=STRICT)
class NewTable:
    lr: float = 0.2
    names: tuple[str, ...] = ("q", "v")
    wire: Annotated[str, AddedLater(before="float32")] = "int8"


@dataclass(frozen=True, config=STRICT)
class New:
    """As later code has it: other defaults, more keys and tables."""

    rounds: int
    cohort: Annotated[int | None, AddedLater(before=None)] = 7
    port: Annotated[int, OPERATIONAL] = 2
    patience: Annotated[int, OPERATIONAL, AddedLater(before=9)] = 5
    every: Annotated[int, AddedLater(before=1)] = 1
    parts: Annotated[tuple[str, ...], AddedLater(before=["a"])] = ("a",)
    base: Annotated[Base | None, AddedLater(before=None)] = None
    limits: Limits = Limits()
    train: NewTable = NewTable()


@dataclass(frozen=True, config=STRICT)
class Forgotten(Old):
    """A key came, and nobody marked it."""

    every: int = 1


def begun(folder, settings):
    """Write the config.toml of a run that started with these settings."""
    file = folder / "config.toml"
    file.write_text(tomli_w.dumps(to_tables(settings)))
    return file


olds = st.builds(
    Old, st.integers(1, 9), st.none() | st.integers(1, 9), st.integers(1, 9), st.builds(OldTable, st.floats(1, 2))
)


@given(old=olds)
def test_a_run_keeps_its_hash_and_what_it_did_as_settings_grow(tmp_path_factory, old):
    now = read_run_settings(New, begun(tmp_path_factory.mktemp("run"), old))
    assert config_hash(now) == config_hash(old)
    assert (now.cohort, now.train.lr, now.train.names) == (old.cohort, old.train.lr, old.train.names)
    assert (now.train.wire, now.every, now.limits.share, now.base) == ("float32", 1, None, None)


def test_a_later_key_that_does_something_else_is_another_run(tmp_path):
    now = read_run_settings(New, begun(tmp_path, Old(3)))
    others = [
        replace(now, every=2),
        replace(now, cohort=7),
        replace(now, parts=("a", "b")),
        replace(now, base=Base("base.toml")),
        replace(now, limits=Limits(0.5)),
        replace(now, train=replace(now.train, wire="int8")),
    ]
    assert len({config_hash(each) for each in [now, *others]}) == 7
    assert config_hash(New(3)) != config_hash(now)  # the new defaults are not what the run did


def test_an_operational_key_changes_no_hash_and_is_taken_from_the_run(tmp_path):
    file = begun(tmp_path, Old(3, port=8))
    now = read_run_settings(New, file)
    assert (now.port, now.patience) == (8, 9)
    assert config_hash(replace(now, port=4, patience=4)) == config_hash(now)


def test_a_forgotten_mark_refuses_to_resume(tmp_path):
    """Negative control: without its mark, the same key makes another run of every old one."""
    assert config_hash(read_run_settings(Forgotten, begun(tmp_path, Old(3)))) != config_hash(Old(3))


def test_unset_keys_are_the_runs_own_and_never_new_defaults(tmp_path):
    file = begun(tmp_path, Old(3, cohort=5, train=OldTable(lr=0.7)))
    typed = resume_settings(New, {"rounds": 3, "port": 6, "train": {"names": ["q"]}}, "typed.toml", file)
    assert typed == replace(read_run_settings(New, file), port=6)
    assert typed.train.lr == 0.7  # neither 0.1 nor 0.2
    assert resume_settings(New, {"rounds": 4}, "typed.toml", file).rounds == 4


def test_a_run_with_later_keys_written_out_is_read_back_equal(tmp_path):
    now = replace(read_run_settings(New, begun(tmp_path, Old(3))), every=4)
    assert read_run_settings(New, begun(tmp_path, now)) == now
    assert read_run_settings(New, begun(tmp_path, New(3))).train.wire == "int8"  # a new run, with its own defaults


def test_changes_name_key_value_and_what_is_typed(tmp_path):
    now = read_run_settings(New, begun(tmp_path, Old(3)))
    typed = {"rounds": 3, "port": 99, "every": 2, "cohort": 4, "train": {"lr": 0.1, "names": ["q", "o"]}}
    assert find_changes(now, typed) == [
        Change(("cohort",), None, 4),
        Change(("every",), 1, 2),
        Change(("train", "names"), ("q",), ["q", "o"]),
    ]
    assert find_changes(now, to_tables(now)) == []


def test_a_wrong_key_in_a_marked_table_is_named():
    with pytest.raises(ConfigError, match=r"unknown key \[base\] hashd; did you mean 'hashed'"):
        parse_settings(New, {"rounds": 3, "base": {"file": "x", "hashd": True}}, "server.toml")


@pytest.mark.parametrize(
    ("kind", "operational"),
    [
        (Recipe, {"workers"}),
        (
            ServerFile,
            {
                *(
                    "listen",
                    "health",
                    "metrics",
                    "folder",
                    "keys",
                    "quorum",
                    "deadline",
                    "grace",
                    "patience",
                    "keep_days",
                ),
            },
        ),
    ],
)
def test_the_operational_keys_are_these(kind, operational):
    assert {field.name for field in fields(kind) if is_operational(field)} == operational


def test_decisive_tables_hold_every_other_key():
    tables = decisive_tables(ServerFile("demo", "first", 3))
    assert tables.keys() == {"project", "run", "rounds", "seed", "lora", "train", "server"}
