"""What a node was told of survives restarts and crashes, and never grows without bound."""

import os

import pytest

from client.network import told_rounds
from client.network.told_rounds import ToldRound, ToldRounds
from common.errors import IdentityError
from common.protocol.round_notice import RoundNotice


@pytest.fixture
def path(tmp_path):
    return tmp_path / "b.rounds"


def filled(path):
    told = ToldRounds(path)
    for number in range(4):
        told.add("run", number, ToldRound(f"a{number - 1}", f"a{number}"))
    return told


def notice(**changes):
    return RoundNotice(**{"run": "run", "round": 4, "parent": "a3", "adapter": "a4", "updates": []} | changes)


def test_it_is_there_after_a_restart_and_nobody_else_reads_it(path):
    filled(path).add("other", 7, ToldRound("b6", "b7"))
    again = ToldRounds(path)
    assert list(again.of("run")) == [0, 1, 2, 3]
    assert (again.of("run")[3], again.of("other"), again.of("none")) == (("a2", "a3"), {7: ("b6", "b7")}, {})
    assert again.runs == 2
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_round_takes_the_place_of_later_ones(path):
    filled(path).add("run", 1, ToldRound("a0", "x1"))
    for told in (ToldRounds(path), ToldRounds(path)):
        assert told.of("run") == {0: ("a-1", "a0"), 1: ("a0", "x1")}


@pytest.mark.parametrize("cut", range(1, 50, 7))
def test_a_line_that_was_cut_short_is_skipped_and_the_next_is_whole(path, cut, caplog):
    filled(path)
    path.write_bytes(path.read_bytes()[:-cut])
    told = ToldRounds(path)
    # Without its newline alone a line is complete.
    assert list(told.of("run")) == ([0, 1, 2, 3] if cut == 1 else [0, 1, 2])
    assert ("is damaged, and is skipped" in caplog.text) == (cut > 1)
    told.add("run", 3, ToldRound("a2", "a3"))
    told.add("run", 4, ToldRound("a3", "a4"))
    assert list(ToldRounds(path).of("run")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("line", [b"[]", b"1", b"{}", b'{"run": 1, "round": 1, "parent": "", "adapter": ""}', b"\xff"])
def test_a_damaged_line_is_skipped(path, line):
    filled(path)
    with path.open("ab") as file:
        file.write(line + b"\n")
    assert list(ToldRounds(path).of("run")) == [0, 1, 2, 3]


def test_a_file_that_is_too_large_is_refused_and_a_full_one_takes_no_more(path, monkeypatch):
    told = filled(path)
    assert told.fault(notice()) is None
    monkeypatch.setattr(told_rounds, "LARGEST", 700)
    assert "is full; move it away" in told.fault(notice())
    assert ToldRounds(path).fault(notice()) is not None  # also after a restart
    monkeypatch.setattr(told_rounds, "LARGEST", 100)
    with pytest.raises(IdentityError, match="is larger than 100 bytes; move it away"):
        ToldRounds(path)


@pytest.mark.parametrize(
    "changes", [{"run": "r" * 129}, {"adapter": "\x1b[2J"}, {"parent": "a b"}, {"adapter": "é"}, {"round": 10**400}]
)
def test_values_that_no_server_sends_are_not_kept(path, changes):
    assert "use the same release on both sides" in filled(path).fault(notice(**changes))


def test_a_pipe_a_link_and_an_open_file_are_refused_at_once(path):
    os.mkfifo(path)
    with pytest.raises(IdentityError, match="not a plain file"):
        ToldRounds(path)
    path.unlink()
    path.symlink_to(path.with_name("other"))
    with pytest.raises(IdentityError, match="symbolic link"):
        ToldRounds(path)
    path.unlink()
    filled(path)
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        ToldRounds(path)


def test_a_disk_that_takes_no_line_is_told_and_the_node_goes_on(path, caplog):
    told = filled(path)
    path.unlink()
    path.mkdir()
    told.add("run", 4, ToldRound("a3", "a4"))
    assert list(told.of("run")) == [0, 1, 2, 3, 4]
    assert "round 4 cannot be kept, and is forgotten when the node ends" in caplog.text
