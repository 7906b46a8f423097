"""What a node answers to the last update of an earlier run; that it is signed is checked before (test_audit.py)."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import tomli_w

from client.results.folder import NodeFolder
from client.results.saving import saving_of
from common.adapters.codec import encode_adapter
from common.protocol.messages import ENDED
from common.settings.reader import read_toml
from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import Server, ask, reason_of, values_of
from tests.helpers.common.models import random_adapter

EARLIER, LATER = "a" * 64, "b" * 64
KEPT = {"keep": True, "project": "ab" * 32}


@pytest.fixture
def server(tmp_path):
    """Return the server of a node that took part in an earlier run, and is in another now."""
    server = Server(write_node(tmp_path))
    announce(server, "first", EARLIER)
    return server


def announce(server, name, run, **changes):
    asked = {"targets": "query-value", "run": run, "run_name": name}
    return values_of(ask(server.file, "query", asked, **KEPT | changes))


def folder_of(server, name="first"):
    return NodeFolder.open(server.file.parent / "runs" / "clinic" / name)


def send(server, run=EARLIER, sent=None, rank=3, **changes):
    """Send the node a last update of a run; what is sent may be other bytes than the stated."""
    buffer = encode_adapter(random_adapter(server.node.model.shapes, (rank,), 9))
    order = replace(server.order, run=run, round=7, parent=sha256(buffer).hexdigest(), **changes)
    return ask(server.file, "evaluate", order.to_values() | {ENDED: "ab" * 64}, sent or buffer, **KEPT)


def test_it_is_announced_and_saved(server):
    assert announce(server, "second", LATER)["unfinished"] == [EARLIER]
    assert values_of(send(server))["run"] == EARLIER
    folder = folder_of(server)
    assert (folder.update.round, folder.update.signature) == (7, "ab" * 64)
    assert folder.changed_file() is None
    assert folder.history()[-1]["down"] == len(folder.update.buffer)
    assert folder_of(server, "second").update is None
    assert "unfinished" not in announce(server, "second", LATER)


def test_it_is_not_announced_to_another_project(server):
    assert "unfinished" not in announce(server, "second", LATER, project="cd" * 32)
    assert reason_of(send(server)) == "policy"
    assert folder_of(server).update is None


def test_no_more_than_16_are_announced(server):
    for number in range(20):
        announce(server, f"run-{number}", f"{number:064x}")
    assert len(announce(server, "second", LATER)["unfinished"]) == 16


def test_a_run_of_which_the_node_has_no_folder_and_this_one_are_declined(server):
    announce(server, "second", LATER)
    assert reason_of(send(server, run="c" * 64)) == "policy"
    assert reason_of(send(server, run=LATER)) == "policy"


def test_it_is_not_saved_twice(server):
    announce(server, "second", LATER)
    values_of(send(server))
    before = folder_of(server).update
    assert reason_of(send(server, rank=2)) == "policy"
    assert folder_of(server).update == before


def test_other_bytes_than_those_signed_are_declined(server):
    announce(server, "second", LATER)
    other = encode_adapter(random_adapter(server.node.model.shapes, (3,), 8))
    assert reason_of(send(server, sent=other)) == "policy"
    assert reason_of(send(server, base="another")) == "base"
    assert folder_of(server).update is None


@pytest.mark.parametrize("limit", [{"targets": ["other"]}, {"base": "another"}])
def test_the_limits_that_the_owner_had_set_for_that_run_hold(server, limit):
    announce(server, "second", LATER)
    settings = folder_of(server).settings
    tables = read_toml(settings)
    settings.write_text(tomli_w.dumps(tables | {"policy": tables["policy"] | limit}))
    assert reason_of(send(server)) == "policy"
    settings.write_text(tomli_w.dumps(tables))
    values_of(send(server))  # control


def test_the_memory_that_the_owner_allows_now_bounds_it(server):
    announce(server, "second", LATER)
    text = server.file.read_text()
    server.file.write_text(f"{text}\n[policy]\nmax_bytes = 100\n")
    assert reason_of(send(server)) == "policy"
    server.file.write_text(text)
    values_of(send(server))  # control


def test_a_full_disk_is_a_word_and_the_update_stays_unfinished(server, caplog):
    announce(server, "second", LATER)
    path = folder_of(server).path / "update"
    path.mkdir()  # so that no file can be moved there
    assert reason_of(send(server)) == "failed"
    assert "not-saved" in [getattr(record, "event", "") for record in caplog.records]
    path.rmdir()
    assert announce(server, "second", LATER)["unfinished"] == [EARLIER]
    values_of(send(server))


def test_a_node_that_saves_nothing_any_more_announces_none(server):
    saving_of.cache_clear()
    tables = Path(server.file).read_text()
    server.file.write_text(f"save = false\n{tables}")
    assert announce(server, "second", LATER).keys().isdisjoint({"unfinished", "saves"})
