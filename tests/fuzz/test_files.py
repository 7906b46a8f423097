"""Files beside a run and beside a node's keys: the status, what a node was told and sent, and adapters of others."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.network.sent_update import SentUpdate
from client.network.told_rounds import ToldRound, ToldRounds
from common.errors import ConfigError, ModelError
from common.huggingface.peft_config import CONFIG
from common.huggingface.peft_folder import WEIGHTS, read_peft_folder, write_peft_folder
from server.monitoring.status_file import FILE
from server.monitoring.status_reader import read_status
from server.monitoring.status_view import render_status
from tests.fuzz.mutations import Case, change_bytes, change_tree, write_json
from tests.fuzz.target import Target, check_depth
from tests.helpers.common.buffers import random_adapter
from tests.server.monitoring.test_status_view import STATUS

pytestmark = pytest.mark.slow
SIZE = 2**20


def changed_json(data: bytes, case: Case) -> bytes:
    if case.pick(["bytes", "tree", "tree", "tree"], 1) == "bytes":
        return change_bytes(data, case.changes)
    return write_json(change_tree(json.loads(data), case.changes))


def test_only_a_config_error_leaves_a_status_and_what_is_shown_is_printable(tmp_path: Path) -> None:
    whole = json.dumps(STATUS).encode()

    def read(data: bytes) -> None:
        (tmp_path / FILE).write_bytes(data)
        shown = render_status(read_status(tmp_path), datetime.now(UTC))
        assert shown.replace("\n", "").isprintable()

    target = Target(lambda case: changed_json(whole, case), read, (ConfigError,), SIZE, [whole])
    check_depth(target.fuzz(), errors=15, read=0.05)


def test_nothing_leaves_what_a_node_was_told_and_sent(tmp_path: Path) -> None:
    told, sent = tmp_path / "a.rounds", tmp_path / "a.sent"
    rounds = ToldRounds(told)
    for number in range(3):
        rounds.add("run", number, ToldRound("00", "01"))
    SentUpdate("run", 3, "00").write(sent)
    valid = [(told, told.read_bytes()), (sent, sent.read_bytes())]

    def make(case: Case) -> tuple[Path, bytes]:
        path, data = case.pick(valid, 0)
        *lines, last = data.splitlines()
        return path, b"\n".join([*lines, changed_json(last, case)])

    def read(made: tuple[Path, bytes]) -> None:
        made[0].write_bytes(made[1])
        assert max(ToldRounds(told).of("run"), default=0) is not None
        SentUpdate.read(sent)

    check_depth(Target(make, read, (), SIZE, valid).fuzz(), errors=0)


def test_only_a_model_error_leaves_an_adapter_of_others(tmp_path: Path) -> None:
    write_peft_folder(tmp_path, random_adapter({"q": (6, 5, 2), "v": (4, 7, 2)}), (), "base", "causal-lm")
    valid = [(tmp_path / name, (tmp_path / name).read_bytes()) for name in (CONFIG, WEIGHTS)]

    def make(case: Case) -> tuple[Path, bytes]:
        path, data = case.pick(valid, 0)
        if path.name == CONFIG:
            return path, changed_json(data, case)
        size = int.from_bytes(data[:8], "little")
        header = changed_json(data[8 : 8 + size], case)
        return path, len(header).to_bytes(8, "little") + header + data[8 + size :]

    def read(made: tuple[Path, bytes]) -> None:
        for path, data in (*valid, made):
            path.write_bytes(data)
        assert read_peft_folder(tmp_path).adapter is not None

    check_depth(Target(make, read, (ModelError,), SIZE, valid).fuzz(), errors=15, read=0.05)
