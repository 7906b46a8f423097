import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.adapters.adapter import zeros
from common.errors import JournalError
from common.hash_chain import Chain
from server.algorithms.state import State
from server.storage.journal import Journal
from server.storage.journal_reader import verify_journal
from tests.helpers.server.states import bits, commit, first_state, next_state, undisturbed

ROOT = Path(__file__).parents[3]
STATES = list(itertools.islice(undisturbed(), 5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a journal of three rounds."""
    with Journal.open(tmp_path / "journal") as journal:
        for _ in range(3):
            commit(journal)
    return tmp_path / "journal"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def last_line(folder: Path) -> int:
    """Return the offset of the log's last line."""
    return (folder / "log.jsonl").read_bytes()[:-1].rindex(b"\n") + 1


def flip(path: Path, position: int, mask: int = 1) -> None:
    """Change one byte of a file; done twice, it is as before."""
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


# --- commit and resume ---


def test_a_new_journal_is_empty(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "run" / "journal") as journal:
        assert journal.entries == ()
        with pytest.raises(JournalError, match="no committed round"):
            journal.last_state()
    with Journal.open(tmp_path / "run" / "journal") as journal:
        assert journal.entries == ()


def test_each_round_comes_back_bit_for_bit(tmp_path: Path) -> None:
    for number in range(4):
        with Journal.open(tmp_path) as journal:
            commit(journal)
            assert bits(journal.last_state()) == bits(STATES[number])
        with Journal.open(tmp_path) as journal:
            assert bits(journal.last_state()) == bits(STATES[number])
            assert bits(journal.last_state()) != bits(STATES[number + 1])


def test_an_entry_holds_what_the_round_was(folder: Path) -> None:
    entries = verify_journal(folder)
    assert [entry["round"] for entry in entries] == [0, 1, 2]
    assert entries[2] | {"hash": "", "state_hash": ""} == {
        "adapter_hash": "hash of 2",
        "clients": ["ada", "bob"],
        "dropped": 0.2,
        "hash": "",
        "previous": entries[1]["hash"],
        "round": 2,
        "state": "round-000002.state",
        "state_hash": "",
    }
    with Journal.open(folder) as journal:
        assert journal.entries == entries


def test_entries_are_the_same_before_and_after_a_restart(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.commit(first_state(), {"pair": (1, 2), "round": 7})
        before = journal.entries
    assert before[0]["pair"] == [1, 2]
    assert before[0]["round"] == 0
    assert verify_journal(tmp_path) == before


def test_parts_of_rank_0_come_back(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.commit(State(0, {"global": zeros({"q": (2, 3)})}), {})
        assert journal.last_state().parts["global"].shapes == {"q": (2, 3)}


def test_rounds_must_follow_each_other(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        with pytest.raises(JournalError, match="round 0 is next, not round 1"):
            journal.commit(STATES[1], {})
        commit(journal)
        for wrong in (STATES[0], STATES[2]):
            with pytest.raises(JournalError, match="round 1 is next"):
                journal.commit(wrong, {})
        journal.commit(STATES[1], {})


def test_a_commit_keeps_two_checkpoints_and_empties_the_spool(folder: Path) -> None:
    with Journal.open(folder) as journal:
        journal.spool_path("ada").write_bytes(b"reply")
        assert files(folder)["spool/ada"] == b"reply"
        commit(journal)
    assert set(files(folder)) == {"lock", "log.jsonl", "round-000002.state", "round-000003.state"}


def test_opening_removes_what_a_crash_left(folder: Path) -> None:
    (folder / "spool" / "ada").write_bytes(b"reply")
    (folder / "round-000003.state").write_bytes(b"its line was never written")
    (folder / ".round-000003.state.0123.tmp").write_bytes(b"half")
    (folder / "round-000003.state.tmp").write_bytes(b"half, of the first release")
    (folder / "round-000000.state").write_bytes(b"not yet removed")
    with Journal.open(folder) as journal:
        assert bits(journal.last_state()) == bits(STATES[2])
    assert set(files(folder)) == {"lock", "log.jsonl", "round-000001.state", "round-000002.state"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0"])
def test_a_name_cannot_leave_the_spool(folder: Path, name: str) -> None:
    with Journal.open(folder) as journal:
        with pytest.raises(JournalError, match="is not a valid file name"):
            journal.spool_path(name)
        assert journal.spool_path("node-1.example").parent == folder / "spool"


# --- one process at a time ---


def test_a_second_process_is_refused_at_once(folder: Path) -> None:
    opens = (
        "from pathlib import Path; from server.storage.journal import Journal; "
        f"Journal.open(Path({str(folder)!r})).__enter__()"
    )
    with Journal.open(folder) as journal:
        second = subprocess.run([sys.executable, "-c", opens], cwd=ROOT, capture_output=True, text=True, check=False)
        assert f"JournalError: {folder} is in use by another process" in second.stderr
        commit(journal)
    subprocess.run([sys.executable, "-c", opens], cwd=ROOT, check=True)


def test_the_folder_is_free_after_an_error(folder: Path) -> None:
    with pytest.raises(RuntimeError), Journal.open(folder):
        raise RuntimeError
    with Journal.open(folder) as journal, pytest.raises(JournalError, match="in use"), Journal.open(folder):
        commit(journal)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file/journal cannot be used"), Journal.open(tmp_path / "file" / "journal"):
        pass
    with pytest.raises(JournalError, match=r"is not a run: it has no journal; give the folder"):
        verify_journal(tmp_path / "journal")


# --- damage ---


def test_every_flipped_byte_of_the_log_is_found(folder: Path) -> None:
    log = folder / "log.jsonl"
    for position in range(log.stat().st_size):
        number = log.read_bytes()[:position].count(b"\n")
        flip(log, position)
        with pytest.raises(JournalError, match=rf"log\.jsonl line {number + 1} \(round {number}\) is changed"):
            verify_journal(folder)
        flip(log, position)
    assert len(verify_journal(folder)) == 3


def test_every_flipped_byte_of_a_checkpoint_is_found(folder: Path) -> None:
    for number, good in ((1, 2), (2, 1)):
        path = folder / f"round-{number:06d}.state"
        for position in range(path.stat().st_size):
            flip(path, position)
            with pytest.raises(
                JournalError, match=rf"{path} \(round {number}\) is changed; the last good round is {good}"
            ):
                verify_journal(folder)
            flip(path, position)
    assert len(verify_journal(folder)) == 3


@pytest.mark.parametrize("name", ["log.jsonl", "round-000001.state", "round-000002.state"])
def test_a_damaged_journal_is_not_opened_and_not_touched(folder: Path, name: str) -> None:
    flip(folder / name, 40)
    (folder / "spool" / "ada").write_bytes(b"reply")
    before = files(folder)
    with pytest.raises(JournalError, match=name), Journal.open(folder):
        pass
    assert files(folder) == before


def test_a_last_line_cut_at_any_byte_never_happened(folder: Path) -> None:
    log, start = (folder / "log.jsonl").read_bytes(), last_line(folder)
    checkpoint = (folder / "round-000002.state").read_bytes()
    for length in range(start, len(log)):
        (folder / "log.jsonl").write_bytes(log[:length])
        assert len(verify_journal(folder)) == 2
        with Journal.open(folder) as journal:
            assert (folder / "log.jsonl").read_bytes() == log[:start]
            assert bits(journal.last_state()) == bits(STATES[1])
            commit(journal)
        assert (folder / "log.jsonl").read_bytes() == log
        assert (folder / "round-000002.state").read_bytes() == checkpoint


def test_a_missing_last_checkpoint_is_found(folder: Path) -> None:
    (folder / "round-000001.state").unlink()
    assert len(verify_journal(folder)) == 3
    (folder / "round-000002.state").unlink()
    with pytest.raises(JournalError, match=r"000002\.state \(round 2\) is missing; no good round is left"):
        verify_journal(folder)


@pytest.mark.parametrize("remedy", ["remove the last line", "remove it"])
def test_the_remedy_works(folder: Path, remedy: str) -> None:
    damaged = 2 if remedy == "remove the last line" else 1
    flip(folder / f"round-{damaged:06d}.state", 9)
    with pytest.raises(JournalError, match=remedy):
        verify_journal(folder)
    if remedy == "remove it":
        (folder / "round-000001.state").unlink()
    else:
        (folder / "log.jsonl").write_bytes((folder / "log.jsonl").read_bytes()[: last_line(folder)])
    with Journal.open(folder) as journal:
        assert bits(journal.last_state()) == bits(STATES[3 - damaged])


@pytest.mark.parametrize("left", [0, 1, None])
def test_a_log_that_lost_its_end_is_found(folder: Path, left: int | None) -> None:
    lines = (folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "log.jsonl").unlink()
    if left is not None:
        (folder / "log.jsonl").write_bytes(b"".join(lines[:left]))
    with pytest.raises(JournalError, match="the log, which lost its end"), Journal.open(folder):
        pass
    assert {"round-000001.state", "round-000002.state"} <= set(files(folder))


def test_verify_only_reads(folder: Path) -> None:
    (folder / "spool" / "ada").write_bytes(b"reply")
    (folder / ".round-000003.state.0123.tmp").write_bytes(b"half")
    before = files(folder)
    verify_journal(folder)
    assert files(folder) == before


def test_states_differ_in_every_round() -> None:
    assert bits(next_state(STATES[3])) == bits(STATES[4])
    assert len({str(bits(state)) for state in STATES}) == 5
    assert STATES[1].parts["global"]["q"].a.dtype == np.float32


@pytest.mark.parametrize("round_of", [float, str, bool, lambda number: None])
@pytest.mark.parametrize("lost", ["state_hash", "dropped", None])
def test_a_log_of_another_form_is_refused_though_its_links_are_right(folder: Path, round_of, lost) -> None:
    lines, chain = [json.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()], Chain()
    log = b""
    for number, line in enumerate(lines):
        content = {
            key: value
            for key, value in line.items()
            if key not in ("hash", "previous", *([lost] if number == 1 else []))
        }
        made = chain.next_line(content if lost or number != 1 else content | {"round": round_of(1)})
        log, chain = log + made, chain.followed_by(made) or chain
    (folder / "log.jsonl").write_bytes(log)
    with pytest.raises(JournalError, match=r"log\.jsonl"):
        verify_journal(folder)
