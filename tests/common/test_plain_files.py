"""Plain files: nothing else is opened, nothing larger is read, and no link is followed where none may be."""

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from common.plain_files import check_plain, open_plain, read_plain

KINDS = {
    "pipe": "it is a pipe, not a file",
    "socket": "it is a socket, not a file",
    "device": "it is a device, not a file",
    "folder": "it is a folder, not a file",
}


def make(kind, path):
    """Put something that is no file at a path; return what must stay alive for it, and a path to it."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        return server, path
    elif kind == "device":
        path = Path("/dev/zero")
    return None, path


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_at_once(tmp_path, kind, mode, links):
    alive, path = make(kind, tmp_path / "it")
    with pytest.raises(OSError, match="not a file") as caught:
        open_plain(path, mode, links=links)
    assert (caught.value.strerror, caught.value.filename) == (KINDS[kind], str(path))
    with pytest.raises(OSError, match="not a file"):
        check_plain(path, links=links)
    del alive


@pytest.mark.parametrize("kind", KINDS)
def test_behind_a_link_it_is_refused_too(tmp_path, kind):
    alive, path = make(kind, tmp_path / "it")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match=KINDS[kind]):
        read_plain(tmp_path / "link", links=True)
    del alive


@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b"])
@pytest.mark.parametrize("target", ["file", "nothing", "folder", "link"])
def test_no_link_is_followed(tmp_path, mode, target):
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "it").symlink_to(target)
    with pytest.raises(OSError, match="it is a symbolic link, not a file"):
        open_plain(tmp_path / "it", mode)
    assert (tmp_path / "file").read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


def test_a_link_that_comes_between_the_check_and_the_opening_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "it").symlink_to("file")
    monkeypatch.setattr("common.plain_files.check_plain", lambda *path, **options: None)
    with pytest.raises(OSError, match="symbolic link"):
        open_plain(tmp_path / "it", "wb")
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_pipe_that_comes_between_does_not_hang(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "it")
    monkeypatch.setattr("common.plain_files.check_plain", lambda *path, **options: None)
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(OSError, match="it is a pipe, not a file"):
        open_plain(tmp_path / "it")
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_users_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"rows")
    (tmp_path / "it").symlink_to("file")
    assert read_plain(tmp_path / "it", 4, links=True) == b"rows"


def test_a_new_file_is_for_its_owner_alone(tmp_path):
    with open_plain(tmp_path / "new", "wb") as file:
        file.write(b"x")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_what_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_plain(path, 5) == read_plain(path) == b"12345"
    with pytest.raises(OSError, match="it has more than 4 bytes, the most of such a file"):
        read_plain(path, 4)
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match=r"it has more than 1\.0 MB"):
        read_plain(path, 10**6)


def test_a_file_that_does_not_tell_its_size_is_bounded_too():
    with pytest.raises(OSError, match="it has more than 3 bytes"):
        read_plain(Path("/proc/self/status"), 3)


def test_what_is_not_there_is_missing(tmp_path):
    for call in (open_plain, read_plain, check_plain):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "it")


def test_it_does_not_wait_for_the_other_end_of_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "it")
    ended = threading.Event()

    def read():
        with pytest.raises(OSError, match="pipe"):
            read_plain(tmp_path / "it")
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    assert ended.wait(30)
