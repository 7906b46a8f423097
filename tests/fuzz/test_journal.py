"""A run's journal: its log with hashes made right again, its checkpoints and its kept updates."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from common.errors import FedloraError, JournalError
from common.hash_chain import Chain, read_chain
from server.storage.earlier_rounds import reachable
from server.storage.journal import Journal
from server.storage.journal_reader import verify_chain
from tests.fuzz.mutations import PLAIN_VALUES, Case, change_bytes, change_tree, write_json
from tests.fuzz.target import Target, check_depth
from tests.helpers.server.states import commit

pytestmark = pytest.mark.slow
SIZE = 2**20
JSON_VALUES = [value for value in PLAIN_VALUES if not isinstance(value, bytes)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a journal of four rounds, between which the run went back once."""
    whole = tmp_path_factory.mktemp("run") / "journal"
    with Journal.open(whole) as journal:
        for _ in range(4):
            commit(journal)
        journal.go_back(2, lambda entry: "00" * 64)
        commit(journal)
    return whole


def linked(lines: list[object]) -> bytes:
    """Return a log of these lines with the hashes that they need, whatever they are; one that has none ends it."""
    log, chain = b"", Chain()
    for line in lines:
        content = (
            {key: value for key, value in line.items() if key not in ("hash", "previous")}
            if isinstance(line, dict)
            else {}
        )
        try:
            log += (made := chain.next_line(content))
        except (ValueError, TypeError):
            return log + write_json(content)
        chain = chain.followed_by(made) or chain
    return log


def changed(log: bytes, case: Case) -> bytes:
    part = case.pick(["bytes", "lines", "linked", "linked", "linked"], 1)
    if part == "bytes":
        return change_bytes(log, case.changes)
    if part == "lines":
        lines = change_tree(log.split(b"\n"), case.changes, (b"", b"{}", b"[" * 5000, b"1" * 5000))
        return b"\n".join(each for each in lines if isinstance(each, bytes)) if isinstance(lines, list) else b""
    lines = change_tree([json.loads(line) for line in log.splitlines()], case.changes, JSON_VALUES)
    return linked(lines if isinstance(lines, list) else [])


def test_a_log_whose_links_are_made_right_is_read(folder: Path) -> None:
    log = (folder / "log.jsonl").read_bytes()
    assert linked([json.loads(line) for line in log.splitlines()]) == log
    assert len(read_chain(log, folder).entries) == 4


def test_only_a_journal_error_leaves_a_chain(folder: Path) -> None:
    log = (folder / "log.jsonl").read_bytes()

    def read(data: bytes) -> None:
        chain = read_chain(data, folder)
        assert all(after["round"] == before["round"] + 1 for before, after in pairwise(chain.entries))

    target = Target(lambda case: changed(log, case), read, (JournalError,), SIZE, [log])
    check_depth(target.fuzz(), errors=2, read=0.1)


def test_only_our_errors_leave_a_journal(folder: Path) -> None:
    file, checkpoint = folder / "log.jsonl", folder / "round-000003.state"
    log, state = file.read_bytes(), checkpoint.read_bytes()

    def make(case: Case) -> tuple[bytes, bytes]:
        if case.pick(["log", "log", "state"], 2) == "log":
            return changed(log, case), state
        return log, change_bytes(state, case.changes)

    def read(data: tuple[bytes, bytes]) -> None:
        file.write_bytes(data[0])
        checkpoint.write_bytes(data[1])
        chain = verify_chain(folder)
        last = Journal(folder, chain, "none")
        assert last.last_state().parts
        assert 3 not in reachable(folder, chain.entries)

    check_depth(Target(make, read, (FedloraError,), SIZE, [(log, state)]).fuzz(), errors=3, read=0.02)
