from dataclasses import replace

import pytest

from common.errors import ConfigError
from common.settings.reader import parse_settings, read_toml
from common.settings.recipe import LoraSettings
from common.settings.server import ServerFile
from server.run_folder import open_run_folder


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "run").mkdir()
    return ServerFile("demo", "first", 3, folder=str(tmp_path / "run"))


def kept(folder):
    return parse_settings(ServerFile, read_toml(folder.config), "config.toml")


def test_settings_are_written(settings):
    assert kept(open_run_folder(settings, begun=False)) == settings


def test_a_run_without_a_round_may_have_others(settings):
    open_run_folder(settings, begun=False)
    other = replace(settings, seed=5, lora=LoraSettings(alpha=16.0))
    assert kept(open_run_folder(other, begun=False)) == other


def test_a_run_that_began_keeps_its_settings(settings):
    open_run_folder(settings, begun=False)
    other = replace(settings, seed=5, lora=LoraSettings(alpha=16.0), quorum=3)
    with pytest.raises(ConfigError, match=r"other settings \(\[lora\] alpha, seed\); set another `run` for this one"):
        open_run_folder(other, begun=True)
    assert kept(open_run_folder(settings, begun=True)) == settings


def test_what_changes_no_bit_may_change(settings):
    open_run_folder(settings, begun=False)
    other = replace(settings, listen="127.0.0.1:9000", health=9001, quorum=3, deadline=5.0)
    assert kept(open_run_folder(other, begun=True)) == other


def test_a_folder_of_a_simulation_is_left_alone(settings, tmp_path):
    (tmp_path / "run" / "config.toml").write_text("workers = 2\n")
    with pytest.raises(ConfigError, match="workers"):
        open_run_folder(settings, begun=False)
    assert (tmp_path / "run" / "config.toml").read_text() == "workers = 2\n"
