import json
import logging
from dataclasses import replace

import pytest

from client.results.saving import Saving
from common.protocol.payload import Payload
from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import Server, ask, values_of


@pytest.fixture
def saving(tmp_path):
    def make(**keys):
        lines = {"name": '"ada"', "rank": "4", "base": '"base"', "data": '"rows.jsonl"'} | keys
        (tmp_path / "node.toml").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        return Saving(tmp_path / "node.toml")

    return make


def test_a_folder_that_cannot_be_written_is_said_and_the_run_goes_on(saving, tmp_path, caplog):
    (tmp_path / "file").touch()
    own = saving(folder='"file"')
    own.begin("first", "a" * 64)
    assert own.folder is None
    own.take("train", Payload({"run": "a" * 64, "round": 1}), {}, 1, 1)
    (record,) = caplog.records
    assert (record.levelno, record.event) == (logging.WARNING, "not-saved")
    assert str(tmp_path / "file") in record.getMessage()


def test_it_is_beside_the_nodes_file_by_default(saving, tmp_path):
    own = saving()
    own.begin("first", "a" * 64)
    assert own.folder.path == tmp_path / "runs" / "ada" / "first"


def test_nothing_is_saved_where_the_owner_does_not_want_it(saving, tmp_path):
    own = saving(save="false")
    own.begin("first", "a" * 64)
    assert own.folder is None
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", [None, 3, "../up"])
def test_a_server_that_names_no_run_gets_nothing_saved(saving, tmp_path, name):
    own = saving()
    own.begin(name, "a" * 64)
    assert own.folder is None
    assert not [*tmp_path.glob("**/run.json")]


def test_what_was_answered_is_in_the_history(saving):
    own = saving()
    own.begin("first", "a" * 64)
    own.take("evaluate", Payload({"run": "a" * 64, "round": 2}), {"loss": 0.5, "count": 7}, up=10, down=20)
    own.take(
        "evaluate", Payload({"run": "b" * 64, "round": 3}), {"loss": 0.1, "count": 7}, up=10, down=20
    )  # another run
    assert own.folder.history() == [{"kind": "evaluate", "round": 2, "up": 10, "down": 20, "loss": 0.5, "count": 7}]


def test_the_announced_rows_are_kept_once(tmp_path):
    server = Server(write_node(tmp_path, keys="keys"))
    asked = {"targets": "query-value", "run": server.order.run, "run_name": "first"}
    announced = [values_of(ask(server.file, "query", asked, keep=True)) for _ in range(2)]
    (line,) = map(json.loads, (tmp_path / "runs" / "clinic" / "first" / "history.jsonl").open())
    assert line == {"kind": "query", "rows": announced[0]["rows"]}


def test_a_saved_update_has_the_receipts_that_the_node_has_of_the_run_so_far(tmp_path):
    server = Server(write_node(tmp_path, keys="keys"))
    own, other = ({"run": run, "round": 1, "signature": "ab"} for run in (server.order.run, "another run"))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "clinic.receipts").write_text(f"{json.dumps(own)}\n{json.dumps(other)}\n")
    ask(server.file, "query", {"targets": "query-value", "run": server.order.run, "run_name": "first"}, keep=True)
    receipts = tmp_path / "runs" / "clinic" / "first" / "receipts.jsonl"
    assert not receipts.exists()
    values_of(server.train(round_id=replace(server.order, round=2), keep=True))
    assert [json.loads(line) for line in receipts.open()] == [own]
