"""The folder of a run: closed to others, without links and without what is no file."""

import logging
import os
import socket
import stat
from pathlib import Path

import pytest

from common.closed_folders import check_run, close_run, closed_to_others
from common.errors import JournalError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run's folder that is open to others."""
    folder = tmp_path / "run"
    (folder / "journal" / "spool").mkdir(parents=True)
    for name in ("config.toml", "journal/log.jsonl", "journal/spool/ada"):
        (folder / name).write_text("x")
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o777 if place.is_dir() else 0o666)
    return folder


def test_it_is_closed_with_one_line_that_has_the_mode_before(run, caplog):
    close_run(run)
    assert {mode(place) for place in (run, *run.rglob("*")) if place.is_dir()} == {0o700}
    assert {mode(place) for place in run.rglob("*") if place.is_file()} == {0o600}
    close_run(run)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"{run} was open to others (mode 0777), like 5 files and folders in it; it is closed now: folders are 0700, "
        "files 0600"
    )
    assert record.event == "run-closed"
    assert record.fields == {"path": str(run), "mode": "0777", "others": 5}


@pytest.mark.parametrize("right", [0o710, 0o701, 0o770, 0o750, 0o705])
def test_a_folder_that_others_may_enter_in_any_way_is_closed(run, right):
    close_run(run)
    run.chmod(right)
    close_run(run)
    assert mode(run) == 0o700


def test_a_file_in_a_closed_folder_is_closed_too(run, caplog):
    close_run(run)
    (run / "journal" / "log.jsonl").chmod(0o640)
    caplog.clear()
    close_run(run)
    assert mode(run / "journal" / "log.jsonl") == 0o600
    assert f"{run / 'journal' / 'log.jsonl'} was open to others (mode 0640); it is closed now" in caplog.text


def test_a_new_run_and_an_empty_folder_are_fine(tmp_path, caplog):
    close_run(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir(mode=0o755)
    close_run(tmp_path / "empty")
    assert mode(tmp_path / "empty") == 0o700


def test_the_folder_of_something_else_is_left_as_it_is(tmp_path):
    (tmp_path / "letters").mkdir(mode=0o755)
    (tmp_path / "letters" / "one").touch(0o644)
    with pytest.raises(JournalError, match="is open to others and is not the folder of a run; choose another"):
        close_run(tmp_path / "letters")
    assert (mode(tmp_path / "letters"), mode(tmp_path / "letters" / "one")) == (0o755, 0o644)
    (tmp_path / "letters").chmod(0o700)
    close_run(tmp_path / "letters")


def test_what_cannot_be_closed_is_refused(run, monkeypatch):
    def refuse(path, right):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(JournalError, match=r"mode 0777\) and cannot be closed, as it belongs to user \d+"):
        close_run(run)


@pytest.mark.parametrize("check", [check_run, close_run])
@pytest.mark.parametrize("target", ["/etc/passwd", "/nowhere", "/etc", "config.toml", "."])
@pytest.mark.parametrize("name", ["status.json", "journal/spool/ada.tmp", "journal/spool/deep", ".hidden"])
def test_a_link_is_refused_by_name(run, check, name, target):
    (run / name).symlink_to(target)
    with pytest.raises(JournalError) as caught:
        check(run)
    assert f"{run / name} cannot be in the folder of a run: it is a symbolic link, not a file" in str(caught.value)


@pytest.mark.parametrize("check", [check_run, close_run])
def test_what_is_no_file_is_refused_by_name(run, check, monkeypatch):
    os.mkfifo(run / "journal" / "pipe")
    with pytest.raises(JournalError, match="pipe cannot be in the folder of a run: it is a pipe"):
        check(run)
    (run / "journal" / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(run)
        server.bind("socket")
        with pytest.raises(JournalError, match="it is a socket"):
            check(run)


def test_a_file_with_a_name_outside_is_refused_and_one_with_two_names_inside_is_not(run, tmp_path):
    (run / "journal" / "kept").hardlink_to(run / "journal" / "log.jsonl")  # as kept updates are
    close_run(run)
    (tmp_path / "outside").hardlink_to(run / "journal" / "log.jsonl")
    with pytest.raises(JournalError, match="is a hard link: the file has another name outside"):
        close_run(run)
    check_run(run)  # A reader changes nothing.


def test_folders_are_closed_before_anything_in_them_is_looked_at(run, monkeypatch):
    seen = []
    original = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: (seen.append((path, mode(path))), original(path))[1])
    close_run(run)
    inside = [right for path, right in seen if path != run]
    assert inside
    assert set(inside) == {0o700}


def test_files_of_this_process_are_closed_while_the_block_runs(tmp_path):
    before = os.umask(0)
    try:
        with closed_to_others():
            (tmp_path / "in").mkdir()
            (tmp_path / "in" / "file").touch()
        (tmp_path / "out").touch()
        assert (mode(tmp_path / "in"), mode(tmp_path / "in" / "file"), mode(tmp_path / "out")) == (0o700, 0o600, 0o666)
    finally:
        os.umask(before)
