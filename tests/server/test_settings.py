"""A server's own file: its paths, its errors, and what a run that has begun adds to it."""

from pathlib import Path

import pytest
import tomli_w

from common.errors import ConfigError
from common.settings.reader import to_tables
from server.settings import read_server
from tests.helpers.server.refused_rules import ILL_FORMED, MEANINGLESS

LEAST = {"project": "cardio", "run": "first", "rounds": 4}


def written(place, **keys):
    place.mkdir(exist_ok=True)
    (place / "server.toml").write_text(tomli_w.dumps(LEAST | keys))
    return place / "server.toml"


def test_paths_are_relative_to_the_file(tmp_path):
    settings = read_server(written(tmp_path / "here", folder="out", keys="../keys"))
    assert (settings.folder, settings.keys) == (str(tmp_path / "here" / "out"), str(tmp_path / "here" / "../keys"))
    absolute = read_server(written(tmp_path / "here", folder="/out"))
    assert (absolute.folder, absolute.keys) == ("/out", str(tmp_path / "here" / "keys"))


def test_a_run_is_written_under_its_name(tmp_path):
    assert read_server(written(tmp_path)).folder == str(tmp_path / "runs" / "first")


def test_a_wrong_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*server\.toml"):
        read_server(tmp_path / "server.toml")
    with pytest.raises(ConfigError, match=r"server.toml: rounds = 0: "):
        read_server(written(tmp_path, rounds=0))


@pytest.mark.parametrize(("section", "key"), [("train", "rounds"), ("server", "cohort")])
def test_rounds_and_cohort_are_set_once(section, key, tmp_path):
    message = rf"server\.toml: \[{section}\] {key} belongs at the top of a server's file, as {key}; move it there"
    with pytest.raises(ConfigError, match=message):
        read_server(written(tmp_path, **{section: {key: 4}}))


def test_a_file_written_out_is_read_back_equal(tmp_path):
    settings = read_server(written(tmp_path, cohort=5, lora={"targets": ["q", "v"]}))
    Path(tmp_path / "again.toml").write_text(tomli_w.dumps(to_tables(settings)))
    assert read_server(tmp_path / "again.toml") == settings


def test_a_begun_run_takes_unset_keys_from_its_own_config(tmp_path):
    file = written(tmp_path, seed=5, quorum=3)
    (tmp_path / "runs" / "first" / "journal").mkdir(parents=True)
    config, log = (tmp_path / "runs" / "first" / name for name in ("config.toml", "journal/log.jsonl"))
    config.write_text(tomli_w.dumps(LEAST | {"folder": "elsewhere", "keys": "moved", "seed": 4, "lora": {"alpha": 8}}))
    log.write_bytes(b"{")
    assert read_server(file).lora.alpha == "rank"  # a line that was never finished: the run has not begun
    log.write_bytes(b"{}\n")
    settings = read_server(file)
    assert (settings.lora.alpha, settings.seed, settings.quorum) == (8, 5, 3)
    assert (settings.folder, settings.keys) == (str(config.parent), str(tmp_path / "keys"))


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"algorithm": "fedlin"}, 'mode = "b"'),
        ({"weights": "nrom"}, "'norm'"),
        ({"codec": "by_hash"}, "'by-hash'"),
        ({"max_share": 0.0}, "max_share"),
        ({"proximal": -0.1}, "proximal"),
    ],
)
def test_a_rule_that_cannot_run_is_told_before_any_node_connects(server, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        read_server(written(tmp_path, server=server))


@pytest.mark.parametrize(("server", "said"), MEANINGLESS + ILL_FORMED)
def test_keys_that_mean_nothing_together_are_told_before_any_node_connects(server, said, tmp_path):
    with pytest.raises(ConfigError) as refused:
        read_server(written(tmp_path, server=server))
    assert all(words in str(refused.value) for words in said)


@pytest.mark.parametrize(
    "server", [{"hold": 3, "mode": "b"}, {"hold": "never"}, {"algorithm": "fedsgd", "hold": 3, "betas": [0.9, 0.99]}]
)
def test_control_keys_that_mean_something_together_are_read(server, tmp_path):
    assert read_server(written(tmp_path, server=server)).server.hold == server["hold"]
