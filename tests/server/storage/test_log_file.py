from pathlib import Path

import pytest

from server.storage.log_file import append_to_file, truncate_file
from tests.helpers.common.disk_faults import largest_file


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
