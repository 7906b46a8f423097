import pytest

from client.flower_node_file import node_file
from common.errors import ConfigError


@pytest.fixture
def run(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    (folder / "nodes").mkdir(parents=True)
    (folder / "config.toml").touch()
    for name in ("b.toml", "a.toml", "a.jsonl"):
        (folder / "nodes" / name).touch()
    monkeypatch.setenv("FEDLORA_NODES", str(folder / "nodes"))
    return folder


def test_a_number_means_the_file_in_that_place_by_name(run):
    assert [node_file(i, 2, str(run)).name for i in range(2)] == ["a.toml", "b.toml"]


def test_nodes_may_lie_outside_a_run(run, tmp_path, monkeypatch):
    (run / "nodes").rename(tmp_path / "mine")
    monkeypatch.setenv("FEDLORA_NODES", str(tmp_path / "mine"))
    assert node_file(1, 2, str(run)) == tmp_path / "mine" / "b.toml"


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(run, monkeypatch, value):
    monkeypatch.delenv("FEDLORA_NODES") if value is None else monkeypatch.setenv("FEDLORA_NODES", value)
    with pytest.raises(ConfigError, match="FEDLORA_NODES is not set; set it to the folder"):
        node_file(0, 2, str(run))


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_nodes_is_refused(run, count):
    with pytest.raises(
        ConfigError, match=f"contains 2 settings files, but Flower started {count} nodes.*num-supernodes=2"
    ):
        node_file(0, count, str(run))


def test_nodes_of_another_run_are_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"belongs to another run than .*other; set it to .*other/nodes"):
        node_file(0, 2, str(tmp_path / "other"))
