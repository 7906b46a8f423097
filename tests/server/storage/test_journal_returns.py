"""A run that goes back: from which rounds to which, in one step, whatever kills it, and as often as it likes."""

import itertools
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from common.errors import JournalError
from common.hash_chain import RETURN, Entry
from server.storage import checkpoints
from server.storage.earlier_rounds import reachable
from server.storage.journal import Journal
from server.storage.journal_reader import verify_chain, verify_journal
from server.storage.kept_updates import checkpoint_before, kept_rounds
from tests.helpers.common.disk_faults import largest_file
from tests.helpers.server.states import bits, commit, undisturbed

STATES = list(itertools.islice(undisturbed(), 6))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a journal of five rounds, whose updates are all kept."""
    with Journal.open(tmp_path / "journal", "all") as journal:
        for _ in range(5):
            commit(journal)
    return tmp_path / "journal"


def sign(entry: Entry) -> str:
    return f"signed {entry['round']}"


def back(folder: Path, number: int) -> None:
    with Journal.open(folder, "all") as journal:
        journal.go_back(number, sign)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", range(4))
def test_it_goes_on_from_the_round_it_went_back_to(folder: Path, number: int) -> None:
    with Journal.open(folder, "all") as journal:
        assert reachable(folder, journal.entries) == [0, 1, 2, 3]
        journal.go_back(number, sign)
        for each in (journal.entries, verify_journal(folder)):
            assert [entry["round"] for entry in each] == list(range(number + 1))
        assert bits(journal.last_state()) == bits(STATES[number])
    with Journal.open(folder, "all") as journal:
        line: Any = journal.returned
        assert (line[RETURN], line["left"], line["signature"]) == (number, 4 - number, f"signed {number}")
        assert line["adapter_hash"] == journal.entries[-1]["adapter_hash"]
        assert bits(commit(journal)) == bits(STATES[number + 1])
        assert journal.returned == line  # nodes that were away still learn of it
    assert verify_chain(folder).left == 4 - number
    assert (folder / "log.jsonl").read_bytes().count(b"\n") == 7


def test_later_files_are_removed_and_the_lines_stay(folder: Path) -> None:
    before = (folder / "log.jsonl").read_bytes()
    back(folder, 2)
    assert (folder / "log.jsonl").read_bytes().startswith(before)
    assert [path.name for path in sorted(folder.glob("round-*"))] == ["round-000002.state"]
    assert kept_rounds(folder) == [1, 2]


def test_two_returns_in_a_row_and_rounds_between(folder: Path) -> None:
    back(folder, 3)
    back(folder, 1)
    with Journal.open(folder, "all") as journal:
        assert [bits(commit(journal)) for _ in range(2)] == [bits(STATES[2]), bits(STATES[3])]
    back(folder, 2)
    chain = verify_chain(folder)
    assert (len(chain.entries), chain.left) == (3, 1 + 2 + 1)
    with Journal.open(folder, "all") as journal:
        assert bits(journal.last_state()) == bits(STATES[2])


@pytest.mark.parametrize("number", [4, 5, 9, -1])
def test_the_last_round_and_those_beyond_are_refused_with_what_can_be_reached(folder: Path, number: int) -> None:
    before = files(folder)
    with pytest.raises(JournalError, match=rf"--from-round {number}: .*these rounds: 0, 1, 2, 3$"):
        back(folder, number)
    assert files(folder) == before


def test_without_kept_updates_only_the_round_before_can_be_reached(folder: Path) -> None:
    with Journal.open(folder, "none") as journal:
        assert reachable(folder, journal.entries) == [3]
        with pytest.raises(JournalError, match=r"no intact checkpoint of round 2 .*these rounds: 3$"):
            journal.go_back(2, sign)
        journal.go_back(3, sign)
        with pytest.raises(JournalError, match=r"these rounds: none$"):
            journal.go_back(1, sign)
        assert bits(commit(journal)) == bits(STATES[4])


def test_a_damaged_checkpoint_cannot_be_reached(folder: Path) -> None:
    path = checkpoint_before(folder, 3)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with Journal.open(folder, "all") as journal:
        assert reachable(folder, journal.entries) == [0, 1, 3]
        with pytest.raises(JournalError, match="no intact checkpoint of round 2"):
            journal.go_back(2, sign)


@pytest.mark.parametrize(("step", "last"), [("restore_checkpoint", 4), ("tidy_checkpoints", 1)])
def test_killed_before_or_after_its_line_it_is_back_or_it_is_not(
    folder: Path, step: str, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        try:
            with Journal.open(folder, "all") as journal:
                monkeypatch.setattr(checkpoints, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
                journal.go_back(1, sign)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(verify_journal(folder)) == last + 1
    with Journal.open(folder, "all") as journal:
        assert bits(journal.last_state()) == bits(STATES[last])
        assert bits(commit(journal)) == bits(STATES[last + 1])
    assert kept_rounds(folder) == list(range(1, last + 2))


def test_a_return_whose_line_was_cut_at_any_byte_never_happened(folder: Path) -> None:
    whole = shutil.copytree(folder, folder.with_name("whole"))
    back(folder, 1)
    log, start = (folder / "log.jsonl").read_bytes(), (whole / "log.jsonl").stat().st_size
    for length in range(start, len(log)):
        (whole / "log.jsonl").write_bytes(log[:length])
        assert len(verify_journal(whole)) == 5
    with Journal.open(whole, "all") as journal:
        assert bits(journal.last_state()) == bits(STATES[4])


def test_a_full_disk_leaves_the_run_where_it_was(folder: Path) -> None:
    log = (folder / "log.jsonl").read_bytes()
    with Journal.open(folder, "all") as journal:
        with largest_file(len(log) + 20), pytest.raises(JournalError, match=r"File too large.*free about .*log\.jsonl"):
            journal.go_back(1, sign)
        assert len(journal.entries) == 5
        assert (folder / "log.jsonl").read_bytes() == log
        assert bits(commit(journal)) == bits(STATES[5])
