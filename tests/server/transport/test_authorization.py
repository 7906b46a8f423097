import hashlib
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from math import inf, nan
from pathlib import Path

import pytest

from common.identity import operator as project
from common.identity.documents import signatures
from common.identity.keys import private_keys
from common.protocol.payload import Payload
from server.transport.authorization import RosterGuard
from tests.helpers.end_to_end.identities import NOW, Identities

ORDER = {"run": "ab" * 32, "round": 3, "attempt": 1, "parent": "cd" * 32, "base": "ef" * 32}
VALUES = {**ORDER, "examples": 160, "tokens": 160, "loss": 1.25}
BLOB = b"factors"


@pytest.fixture
def identities(tmp_path):
    return Identities(tmp_path, "a", "b")


@pytest.fixture
def folders(identities):
    """Return the operator's folder, `keys`, and the folders of two admitted nodes."""
    return identities.folder


@pytest.fixture
def nodes(identities):
    return {name: identities.node(name) for name in ("a", "b")}


@pytest.fixture
def roster_guard(folders, nodes):
    return RosterGuard(folders / "keys", nodes["b"].roster, b"", "examples")


def reply(node, values=VALUES, blob=BLOB, **changes):
    """Return a node's reply: values with its signature; `changes` are made afterwards."""
    who = {"project": node.project, "node": node.name, "roster": node.roster.version, "key": node.signing_key}
    return {**values, **signatures.sign_reply(values, hashlib.sha256(blob).hexdigest(), **who), **changes}


def key_of(node):
    return node.roster.members[node.name].certificate


def test_a_member_is_admitted_up_to_its_rank(roster_guard, nodes):
    assert roster_guard.authorize_node("b", key_of(nodes["b"]), 8) is None
    assert roster_guard.authorize_node("b", key_of(nodes["b"]), 9) == "rank"


def test_a_name_is_worth_nothing_without_its_key(roster_guard, nodes):
    assert roster_guard.authorize_node("nobody", key_of(nodes["b"]), 1) == "unknown"
    assert roster_guard.authorize_node("a", key_of(nodes["b"]), 1) == "unknown"


def test_a_revocation_counts_without_a_restart(roster_guard, folders, nodes):
    project.revoke(folders / "keys", "b", NOW)
    assert roster_guard.authorize_node("b", key_of(nodes["b"]), 1) == "revoked"
    assert roster_guard.authorize_node("a", key_of(nodes["b"]), 1) == "unknown"


def test_a_reply_on_its_way_at_a_revocation_does_not_count(roster_guard, folders, nodes):
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"]), BLOB)) is None  # control
    project.revoke(folders / "keys", "b", NOW)
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"]), BLOB)) == "revoked"


@pytest.mark.parametrize("nonce", ["", "ab", "ab" * 17, "AB" * 16, 7])
def test_a_nonce_has_one_length(roster_guard, nodes, nonce, monkeypatch):
    monkeypatch.setattr(signatures.secrets, "token_hex", lambda size: nonce)
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"]), BLOB)) == "signature"


def test_an_older_or_damaged_roster_is_not_taken(roster_guard, folders, nodes):
    file = folders / "keys" / "roster.json"
    before = file.read_bytes()
    project.revoke(folders / "keys", "b", NOW)
    assert roster_guard.authorize_node("b", key_of(nodes["b"]), 1) == "revoked"
    for data in (before, before[:-9]):
        file.write_bytes(data)
        assert roster_guard.authorize_node("b", key_of(nodes["b"]), 1) == "revoked"


def test_two_rosters_of_one_version_are_not_both_taken(roster_guard, folders, nodes, caplog, tmp_path):
    fork = Path(shutil.copytree(folders / "keys", tmp_path / "fork"))
    project.revoke(folders / "keys", "a", NOW)
    assert roster_guard.authorize_node("b", key_of(nodes["b"]), 1) is None
    project.revoke(fork, "b", NOW)
    shutil.copy(fork / "roster.json", folders / "keys")
    for _ in range(3):
        assert roster_guard.authorize_node("b", key_of(nodes["b"]), 1) is None
        assert roster_guard.authorize_node("a", key_of(nodes["b"]), 1) == "unknown"
    assert caplog.text.count("there are two rosters of version 4") == 1


def test_a_roster_is_kept_before_anyone_is_admitted_by_it(folders, nodes, caplog):
    kept, fails = [], True

    def keep(roster, signed):
        if fails:
            raise OSError(28, "No space left on device")
        kept.append((roster.version, signed))

    roster_guard = RosterGuard(folders / "keys", nodes["b"].roster, b"", "examples", keep)
    project.revoke(folders / "keys", "b", NOW)
    for _ in range(3):
        assert roster_guard.authorize_node("b", key_of(nodes["b"]), 1) is None
    assert caplog.text.count("the previous roster stays in use: [Errno 28]") == 1
    fails = False
    assert roster_guard.authorize_node("b", key_of(nodes["b"]), 1) == "revoked"
    assert kept == [(4, (folders / "keys" / "roster.json").read_bytes())]


def test_an_expired_member_is_not_admitted(folders, nodes):
    roster = nodes["b"].roster
    past = replace(roster.members["b"], expires=datetime(2020, 1, 1, tzinfo=UTC))
    roster_guard = RosterGuard(
        folders / "keys", replace(roster, members={**roster.members, "b": past}), b"", "examples"
    )
    assert roster_guard.authorize_node("b", key_of(nodes["b"]), 1) == "expired"


def test_a_signed_reply_counts_once(roster_guard, nodes):
    values = reply(nodes["b"])
    assert roster_guard.authorize_reply("b", Payload(values, BLOB)) is None
    assert roster_guard.authorize_reply("b", Payload(values, BLOB)) == "replay"
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"]), BLOB)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"run": "ac" * 32},
        {"round": 4},
        {"attempt": 2},
        {"parent": "ce" * 32},
        {"base": "ff" * 32},
        {"examples": 161},
        {"tokens": 161},
        {"loss": 1.5},
        {"more": 1},
        {"roster": 1},
        {"nonce": "00" * 16},
        {"signature": "00" * 64},
        {"signature": "no hex"},
        {"signature": 7},
        {"roster": 99},
        {"roster": "3"},
    ],
)
def test_a_change_in_any_signed_value_is_seen(roster_guard, nodes, change):
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"], **change), BLOB)) == "signature"
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"]), BLOB)) is None  # control


def test_each_byte_of_the_blob_is_signed(roster_guard, nodes):
    for place in range(len(BLOB)):
        flipped = bytearray(BLOB)
        flipped[place] ^= 1
        assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"]), bytes(flipped))) == "signature"


@pytest.mark.parametrize("missing", ["roster", "nonce", "signature", "round"])
def test_a_value_that_is_missing_is_seen(roster_guard, nodes, missing):
    values = reply(nodes["b"])
    del values[missing]
    assert roster_guard.authorize_reply("b", Payload(values, BLOB)) == "signature"


def test_a_node_cannot_speak_for_another(roster_guard, nodes):
    assert roster_guard.authorize_reply("a", Payload(reply(nodes["b"]), BLOB)) == "signature"
    stranger = replace(nodes["b"], signing_key=private_keys.new_signing_key())
    assert roster_guard.authorize_reply("b", Payload(reply(stranger), BLOB)) == "signature"
    other = replace(nodes["b"], project="other")
    assert roster_guard.authorize_reply("b", Payload(reply(other), BLOB)) == "signature"
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"], {"name": "a"}), BLOB)) == "name"
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"], {"name": "b"}), BLOB)) is None


def test_what_is_no_number_is_signed_as_it_is(roster_guard, nodes):
    values = reply(nodes["b"], {**VALUES, "loss": nan})
    assert roster_guard.authorize_reply("b", Payload({**values, "loss": inf}, BLOB)) == "signature"
    assert roster_guard.authorize_reply("b", Payload(values, BLOB)) is None


@pytest.mark.parametrize("rank", [9, "8", 8.0, [8]])
def test_no_node_says_that_it_trains_more_than_its_rank(roster_guard, nodes, rank):
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"], {"name": "b", "rank": rank}), BLOB)) == "rank"
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"], {"name": "b", "rank": 8}), BLOB)) is None


@pytest.mark.parametrize("count", [5001, 10**12, "5000", 5000.0, nan, [5000], True])
@pytest.mark.parametrize(
    ("weights", "counted"), [("examples", "examples"), ("uniform", "examples"), ("tokens", "tokens")]
)
def test_no_node_counts_more_than_its_weight(folders, nodes, weights, counted, count):
    roster_guard = RosterGuard(folders / "keys", nodes["b"].roster, b"", weights)
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"], {**VALUES, counted: count}), BLOB)) == "weight"
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"], {**VALUES, counted: 5000}), BLOB)) is None


def test_rows_may_have_more_tokens_than_the_roster_lets_count_where_rows_count(roster_guard, nodes):
    assert roster_guard.authorize_reply("b", Payload(reply(nodes["b"], {**VALUES, "tokens": 10**6}), BLOB)) is None
