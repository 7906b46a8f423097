import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.storage.atomic_files import append_to_file, open_atomically, truncate_file, write_file


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write a file beyond `size` bytes, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_replaces_the_whole_file(tmp_path: Path) -> None:
    for data in (b"a long first one", b"short", b""):
        write_file(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("size", [0, 1, 9])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, size: int) -> None:
    write_file(tmp_path / "file", b"old")
    with largest_file(size), pytest.raises(OSError, match="File too large"):
        write_file(tmp_path / "file", b"new bytes.")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with largest_file(10):
        write_file(tmp_path / "file", b"new bytes.")
    assert (tmp_path / "file").read_bytes() == b"new bytes."


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"old")
    with pytest.raises(ZeroDivisionError), open_atomically(tmp_path / "file") as file:
        file.write(b"new" * 2**20)
        raise ZeroDivisionError
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with open_atomically(tmp_path / "file") as file:
        file.write(b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_append_puts_bytes_after_a_position(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"kept, dropped for good")
    append_to_file(tmp_path / "log", b"new", 6)
    assert (tmp_path / "log").read_bytes() == b"kept, new"
    append_to_file(tmp_path / "log", b"!", 9)
    assert (tmp_path / "log").read_bytes() == b"kept, new!"


def test_cut_undoes_an_append_that_failed(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"kept")
    with largest_file(6), pytest.raises(OSError, match="File too large"):
        append_to_file(tmp_path / "log", b"too long", 4)
    assert (tmp_path / "log").read_bytes() == b"kepttoo long"[:6]
    truncate_file(tmp_path / "log", 4)
    assert (tmp_path / "log").read_bytes() == b"kept"
