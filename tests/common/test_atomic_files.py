import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.atomic_files import make_atomically, move_folder, open_atomically, remove_leftovers, write_file
from tests.helpers.common.disk_faults import fail_at, largest_file

Write = Callable[[Path], object]


def make_file(path: Path) -> None:
    with make_atomically(path) as made:
        made.write_bytes(b"new")


def make_folder(path: Path) -> None:
    with make_atomically(path) as made:
        (made / "inner").mkdir(parents=True)
        (made / "inner" / "file").write_bytes(b"new")


DURABLE: dict[str, tuple[Write, list[str]]] = {
    "replace": (lambda path: write_file(path, b"new"), ["open", "fsync", "replace", "open", "fsync"]),
    "create": (lambda path: write_file(path, b"new", exclusive=True), ["open", "fsync", "link", "open", "fsync"]),
    "make a file": (make_file, ["open", "fsync", "replace", "open", "fsync"]),
    "make a folder": (make_folder, [*["open", "fsync"] * 3, "replace", "open", "fsync"]),
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(path: Path) -> bytes:
    return (path / "inner" / "file" if path.is_dir() else path).read_bytes()


@pytest.mark.parametrize(("write", "steps"), DURABLE.values(), ids=DURABLE)
def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, steps: list[str]
) -> None:
    with monkeypatch.context() as patch:
        made = fail_at(patch, len(steps))
        write(tmp_path / "it")
    assert made == steps
    assert content(tmp_path / "it") == b"new"
    assert names(tmp_path) == ["it"]


@pytest.mark.parametrize(("write", "steps"), DURABLE.values(), ids=DURABLE)
def test_a_failure_at_any_step_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, steps: list[str]
) -> None:
    named = next(step for step, call in enumerate(steps) if call in ("link", "replace"))
    for step in range(len(steps)):
        place = tmp_path / str(step)
        place.mkdir()
        with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output error"):
            fail_at(patch, step)
            write(place / "it")
        assert names(place) == (["it"] if step > named else [])
        assert step <= named or content(place / "it") == b"new"


@pytest.mark.parametrize("name", ["replace", "make a file"])
def test_a_failure_at_any_step_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write, steps = DURABLE[name]
    for step in range(len(steps)):
        (tmp_path / "it").write_bytes(b"old")
        with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output error"):
            fail_at(patch, step)
            write(tmp_path / "it")
        assert content(tmp_path / "it") == (b"new" if step > steps.index("replace") else b"old")
        assert names(tmp_path) == ["it"]


def test_a_file_that_need_not_last_is_still_replaced_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        made = fail_at(patch, 99)
        write_file(tmp_path / "file", b"new", durable=False)
    assert made == ["open", "replace"]
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("size", [0, 1, 9])
def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, size: int) -> None:
    write_file(tmp_path / "file", b"old")
    with largest_file(size), pytest.raises(OSError, match="File too large"):
        write_file(tmp_path / "file", b"new bytes.")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    with largest_file(10):
        write_file(tmp_path / "file", b"new bytes.")
    assert (tmp_path / "file").read_bytes() == b"new bytes."


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"old")
    with pytest.raises(ZeroDivisionError), open_atomically(tmp_path / "file") as file:
        file.write(b"new" * 2**20)
        raise ZeroDivisionError
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    with open_atomically(tmp_path / "file") as file:
        file.write(b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_block_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), make_atomically(tmp_path / "folder") as made:
        (made / "inner").mkdir(parents=True)
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), make_atomically(tmp_path / "folder"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_an_exclusive_write_never_replaces(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "file", tmp_path / "target"
    if kind != "dangling link":
        target.write_bytes(b"old")
    path.symlink_to(target) if "link" in kind else path.write_bytes(b"old")
    before = names(tmp_path)
    with pytest.raises(FileExistsError):
        write_file(path, b"new", exclusive=True)
    assert names(tmp_path) == before
    assert not path.exists() or path.read_bytes() == b"old"


def test_only_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "empty")
    assert content(tmp_path / "empty") == b"new"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs").touch()
    with pytest.raises(OSError, match="not empty"):
        make_folder(tmp_path / "full")
    assert names(tmp_path / "full") == ["theirs"]
    assert names(tmp_path) == ["empty", "full"]


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_mode_holds_from_the_first_byte_on(tmp_path: Path, umask: int) -> None:
    for mode in (0o600, 0o666):
        with open_atomically(tmp_path / "file", mode) as file:
            assert os.fstat(file.fileno()).st_mode & 0o777 == mode & ~umask
        assert (tmp_path / "file").stat().st_mode & 0o777 == mode & ~umask


def test_two_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    with open_atomically(tmp_path / "file") as one, open_atomically(tmp_path / "file") as other:
        one.write(b"one")
        other.write(b"other")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert names(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {".hidden", "file", "file.tmp", "folder"}
    for name in kept - {"folder"}:
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file", tmp_path / "folder"):
        child = os.fork()
        if child == 0:
            with make_atomically(path) as made:
                make_folder(made) if path.name == "folder" else made.touch()
                os._exit(0)  # as after SIGKILL, nothing is cleaned up
        os.waitpid(child, 0)
    assert len(names(tmp_path)) == len(kept) + 2
    remove_leftovers(tmp_path)
    assert {*names(tmp_path)} == kept
    remove_leftovers(tmp_path / "nowhere")


def test_a_folder_is_moved_whole_and_never_over_another(tmp_path):
    made, there = tmp_path / "made", tmp_path / "there"
    for folder in (made, there):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "file").write_bytes(folder.name.encode())
    with pytest.raises(OSError, match="not empty"):
        move_folder(made, there)
    assert content(there) == b"there"
    move_folder(made, tmp_path / "new")
    assert names(tmp_path) == ["new", "there"]
    assert content(tmp_path / "new") == b"made"
