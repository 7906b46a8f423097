"""The file that `fedlora server --example` prints."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

import server
from common.errors import ConfigError
from common.settings.reader import read_toml
from common.settings.recipe import LoraSettings, Rule, Steps
from common.settings.server import RunBase, ServerFile
from server.rounds.run_settings import RunSettings
from server.settings import read_server

EXAMPLE = Path(server.__file__).with_name("example.toml")
TABLES = {"base": RunBase, "lora": LoraSettings, "train": Steps, "server": Rule}


def uncommented(folder, algorithm="fedsgd"):
    """Return the example with every key set, and the algorithm that has them all."""
    file = folder / "whole.toml"
    text = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", EXAMPLE.read_text())
    assert '\nalgorithm = "increments"' in text
    file.write_text(text.replace('\nalgorithm = "increments"', f'\nalgorithm = "{algorithm}"'))
    return file


def test_it_is_a_servers_file_as_it_stands():
    assert RunSettings.from_server_file(read_server(EXAMPLE)).train.rounds == 20


def test_it_shows_every_key_and_each_can_be_used(tmp_path):
    read_server(uncommented(tmp_path))
    tables = read_toml(uncommented(tmp_path))
    assert {field.name for field in fields(ServerFile)} == tables.keys()
    for name, kind in TABLES.items():
        assert {field.name for field in fields(kind)} == tables[name].keys()


def test_it_asks_for_no_gradients_as_it_stands(tmp_path):
    assert read_server(EXAMPLE).server.algorithm == "increments"
    with pytest.raises(ConfigError, match='rank_shared = 16, but algorithm = "increments" has no such setting'):
        read_server(uncommented(tmp_path, "increments"))  # control: fedsgd's keys are not for it


def test_what_it_calls_a_default_is_one(tmp_path):
    """But for keys whose default is to be left out, which it says."""
    shown, default = (read_server(file) for file in (uncommented(tmp_path), EXAMPLE))
    assert (replace(shown.lora, budget=None), shown.train) == (default.lora, default.train)
    differ = {f.name for f in fields(ServerFile) if getattr(shown, f.name) != getattr(default, f.name)}
    assert differ == {
        "cohort",
        "lora",
        "server",
        "folder",
        "keys",
        "base",
        "patience",
        "grace",
        "metrics",
    }  # paths are relative to the file
    assert {f.name for f in fields(Rule) if getattr(shown.server, f.name) != getattr(default.server, f.name)} == {
        "algorithm",
        "rank_global",
        "rank_kept",
        "rank_change",
        "rank_shared",
        "optimizer",
        "betas",
        "weights",
    }
