"""Nodes are told of rosters and rounds over the real transport, and hold the server to its log."""

from dataclasses import replace

import pytest

from common.identity.documents import signatures
from common.identity.documents.signatures import Receipt
from common.protocol.payload import Payload
from common.protocol.round_notice import RoundNotice
from server.notifications import NoticeBroadcaster, Notices
from server.storage.journal import Journal
from server.transport.authorization import RosterGuard
from server.transport.grid import GrpcGrid, NodeGuard
from server.transport.quota import NodeQuota
from tests.helpers.end_to_end.identities import Identities
from tests.helpers.end_to_end.transport import Node, RecordingAuditor, until
from tests.helpers.server.runs import fresh, plan, run


@pytest.fixture
def identities(tmp_path):
    return Identities(tmp_path, "ada", "bob")


@pytest.fixture
def journal(tmp_path):
    """Of a run of two rounds, in which bob's second update was refused."""
    messenger = fresh()
    messenger.tamper = lambda name, kind, n, reply: "nan" if (name, kind, n) == ("bob", "train", 2) else reply
    run(tmp_path / "journal", messenger, plan(2))
    with Journal.open(tmp_path / "journal") as journal:
        yield journal


@pytest.fixture
def notices(identities, journal):
    credentials = identities.server()
    return Notices(
        journal, RosterGuard(identities.keys, credentials.roster, credentials.roster_bytes, "examples"), credentials
    )


@pytest.fixture
def grid(identities, notices, tmp_path):
    gate = NodeGuard(lambda *who: None, lambda *reply: None, notices.on_connect, NodeQuota())
    with GrpcGrid("localhost:0", identities.server(), gate, tmp_path) as grid:
        yield grid


def record_of(journal, name):
    return next(c for c in journal.entries[-1]["metrics"]["clients"] if c["name"] == name)


def test_a_line_has_what_a_node_may_know(notices, journal, identities):
    line, entry, own = (
        RoundNotice.from_values(notices.round_notice("ada").values),
        journal.entries[-1],
        record_of(journal, "ada"),
    )
    assert (line.run, line.round, line.adapter) == (entry["config"], 2, entry["adapter_hash"])
    assert line.parent == journal.entries[-2]["adapter_hash"]
    assert (line.reason, line.weight, line.clip, line.returned) == ("", own["share"], 1.0, "")
    assert sorted(line.updates) == sorted(record_of(journal, name)["update"] for name in ("ada", "cyd", "eve"))
    receipt = Receipt(
        project="demo",
        run=line.run,
        round=2,
        node="ada",
        blob_hash=own["update"],
        weight=own["share"],
        adapter_hash=line.adapter,
        clip=1.0,
    )
    key = identities.node("ada").receipt_public_key
    assert signatures.verify_signature(receipt, bytes.fromhex(line.signature), key)
    assert not signatures.verify_signature(replace(receipt, node="bob"), bytes.fromhex(line.signature), key)


def test_a_node_that_was_refused_gets_the_reason_and_no_aggregation_error(notices):
    line = RoundNotice.from_values(notices.round_notice("bob").values)
    assert (line.reason, line.weight, line.signature) == ("nan", 0.0, "")


def test_a_node_that_was_not_asked_gets_the_line_alone(notices):
    line = RoundNotice.from_values(notices.round_notice("nobody").values)
    assert (line.reason, line.weight, line.signature, line.round) == ("", 0.0, "", 2)


def test_a_node_that_connects_learns_the_roster_and_the_last_round(grid, identities, notices):
    heard = RecordingAuditor()
    node = Node(f"localhost:{grid.port}", identities.node("ada"), "ada", auditor=heard)
    until(lambda: len(heard.notices) == 2)
    assert heard.notices == [({}, identities.roster), (dict(notices.round_notice("ada").values), b"")]
    node.stop()


def test_a_run_that_has_not_begun_has_no_line(identities, tmp_path):
    credentials = identities.server()
    roster_guard = RosterGuard(identities.keys, credentials.roster, credentials.roster_bytes, "examples")
    with Journal.open(tmp_path / "new") as journal:
        assert Notices(journal, roster_guard, credentials).on_connect("ada") == [Payload({}, identities.roster)]


def test_each_round_and_each_new_roster_are_told_once(grid, identities, notices, journal):
    heard, broadcaster = RecordingAuditor(), NoticeBroadcaster(grid, notices)
    node = Node(f"localhost:{grid.port}", identities.node("ada"), "ada", auditor=heard)
    until(lambda: len(heard.notices) == 2)
    broadcaster.on_round_started(3, 2)
    broadcaster.on_round_committed(journal.entries[-1]["metrics"])
    identities.revoke("bob")
    broadcaster.on_round_started(4, 2)
    broadcaster.on_round_started(5, 2)
    until(lambda: len(heard.notices) == 4)
    assert [blob for _, blob in heard.notices[2:]] == [b"", identities.roster]
    node.stop()


def test_the_last_notice_comes_before_the_end(grid, identities, notices, journal):
    heard = RecordingAuditor()
    node = Node(f"localhost:{grid.port}", identities.node("ada"), "ada", auditor=heard)
    until(lambda: len(heard.notices) == 2)
    NoticeBroadcaster(grid, notices).on_round_committed(journal.entries[-1]["metrics"])
    grid.close(finished=True)
    assert node.ended() is None
    assert len(heard.notices) == 3
