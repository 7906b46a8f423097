import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from common.errors import IdentityError
from common.identity.keys import files, folders
from tests.helpers.common.disk_faults import fail_at


@pytest.fixture(autouse=True, params=[0o000, 0o022])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Modes are ours whatever the user's umask."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_are_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    folders.make(folder, {"a.key": b"a"})
    files.create_file(folder / "b.key", b"b")
    files.replace_file(folder / "c.json", b"c")
    assert mode(folder) == 0o700
    assert {path.name: (path.read_bytes(), mode(path)) for path in folder.iterdir()} == {
        "a.key": (b"a", 0o600),
        "b.key": (b"b", 0o600),
        "c.json": (b"c", 0o600),
    }
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]
    folders.ensure(tmp_path / "other")
    assert mode(tmp_path / "other") == 0o700


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_is_there_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "a.key", tmp_path / "target"
    if kind != "dangling link":
        target.write_bytes(b"old")
    path.symlink_to(target) if "link" in kind else path.write_bytes(b"old")
    before = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(IdentityError, match=r"a\.key: already exists"):
        files.create_file(path, b"new")
    assert {entry.name for entry in tmp_path.iterdir()} == before
    assert not path.exists() or path.read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_folder_that_is_there_is_refused(tmp_path: Path, kind: str) -> None:
    folder, full = tmp_path / "keys", tmp_path / "full"
    full.mkdir()
    (full / "ca.key").write_bytes(b"old")
    {"file": folder.touch, "folder": lambda: full.rename(folder), "link": lambda: folder.symlink_to(full)}[kind]()
    before = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(IdentityError, match="another"):
        folders.make(folder, {"ca.key": b"new"})
    assert {entry.name for entry in tmp_path.iterdir()} == before
    assert kind == "file" or (folder / "ca.key").read_bytes() == b"old"


def replace_old(folder: Path) -> None:
    files.replace_file(folder / "old", b"new")


def create_new(folder: Path) -> None:
    files.create_file(folder / "new", b"new")


def make_folder(folder: Path) -> None:
    folders.make(folder / "keys", {"a.key": b"new"})


@pytest.mark.parametrize("act", [replace_old, create_new, make_folder])
def test_a_failure_at_any_step_leaves_nothing_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None]
) -> None:
    for step in count():
        folder = tmp_path / str(step)
        folder.mkdir()
        files.create_file(folder / "old", b"old")
        with monkeypatch.context() as patch:
            fail_at(patch, step)
            try:
                act(folder)
                break
            except IdentityError as error:
                assert "Input/output error" in str(error)
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert {mode(path) for path in folder.rglob("*") if path.is_file()} == {0o600}
        assert found.pop("old") in ((b"old", b"new") if act is replace_old else (b"old",))
        assert found in ({}, {"new": b"new"}, {"keys/a.key": b"new"})
        assert not [*folder.rglob(".*")]
    assert step >= 5


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    folders.make(tmp_path / "keys", {"a": b"a"})
    assert mode(tmp_path / "keys") == 0o700


@pytest.mark.parametrize("right", [0o604, 0o640, 0o622, 0o601])
def test_a_key_that_is_open_to_others_is_refused_with_what_mends_it(tmp_path: Path, right: int) -> None:
    path = tmp_path / "it's a.key"
    files.create_file(path, b"secret")
    assert files.read_private(path) == b"secret"
    path.chmod(right)
    with pytest.raises(IdentityError, match=f"mode {right:04o}") as error:
        files.read_private(path)
    assert os.system(str(error.value).partition("run: ")[2]) == 0
    assert files.read_private(path) == b"secret"


def test_a_folder_that_is_open_to_others_is_refused_with_what_mends_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(IdentityError, match=r"mode 0750.*chmod 700") as error:
        folders.check_closed(tmp_path)
    assert os.system(str(error.value).partition("run: ")[2]) == 0
    folders.check_closed(tmp_path)


def test_a_key_is_read_from_a_plain_file_only(tmp_path: Path) -> None:
    files.create_file(tmp_path / "a.key", b"secret")
    (tmp_path / "link.key").symlink_to(tmp_path / "a.key")
    os.mkfifo(tmp_path / "pipe.key", 0o600)
    (tmp_path / "folder.key").mkdir(mode=0o700)
    for name, said in (
        ("link", "symbolic link"),
        ("pipe", "not a plain file"),
        ("folder", "is a folder"),
        ("no", "not"),
    ):
        with pytest.raises(IdentityError, match=said):
            files.read_private(tmp_path / f"{name}.key")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.request"
    path.write_bytes(b"x" * files.LARGEST)
    assert len(files.read_public(path)) == files.LARGEST
    path.write_bytes(b"x" * (files.LARGEST + 1))
    with pytest.raises(IdentityError, match="larger"):
        files.read_public(path)


def test_one_command_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    seen: list[str] = []

    def second() -> None:
        with folders.lock(tmp_path):
            seen.append("second")

    with folders.lock(tmp_path):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        seen.append("first")
    other.join(10)
    assert seen == ["first", "second"]


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.key.0123.tmp").touch()
    (tmp_path / "a.key").touch()
    with folders.lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["a.key"]


@pytest.mark.parametrize("read", [files.read_private, files.read_public])
def test_a_small_file_takes_little_memory(tmp_path: Path, read) -> None:
    files.create_file(tmp_path / "a.key", bytes(1000))
    tracemalloc.start()
    assert read(tmp_path / "a.key") == bytes(1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 1000 < peak < 50_000
