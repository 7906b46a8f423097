import pytest

from common.errors import ConfigError
from simulations.cache import build_once, cache_folder


def test_own_variable_wins_over_the_shared_one(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    monkeypatch.delenv("FEDLORA_CACHE", raising=False)
    assert cache_folder() == tmp_path / "shared" / "fedlora"
    monkeypatch.setenv("FEDLORA_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDLORA_CACHE", str(tmp_path))
    return tmp_path


def test_builds_once(cache):
    calls = []
    for text in ("first", "second"):
        path = build_once("a/b.txt", lambda target, text=text: calls.append(text) or target.write_text(text))
    assert path == cache / "a" / "b.txt"
    assert (path.read_text(), calls) == ("first", ["first"])


def test_a_build_that_fails_leaves_nothing(cache):
    def half(target):
        target.mkdir()
        (target / "part").write_text("x")
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError):
        build_once("folder", half)
    assert list(cache.iterdir()) == []


def test_the_faster_of_two_processes_stays(cache):
    def slow(target):
        target.mkdir()
        (target / "mine").touch()
        (cache / "folder").mkdir()
        (cache / "folder" / "theirs").touch()

    assert [path.name for path in build_once("folder", slow).iterdir()] == ["theirs"]
    assert [path.name for path in cache.iterdir()] == ["folder"]


def test_a_cache_that_cannot_be_a_folder_is_explained(cache, monkeypatch):
    (cache / "file").touch()
    monkeypatch.setenv("FEDLORA_CACHE", str(cache / "file"))
    with pytest.raises(ConfigError, match="FEDLORA_CACHE"):
        build_once("x", lambda target: target.touch())
