"""A node's audit of a server whose log does not fit what the node has sent and received."""

import hashlib
import json
import logging
from dataclasses import replace

import pytest

from client.network.audit import LogAuditor
from common.errors import IdentityError, TransportError
from common.identity.documents import signatures
from common.identity.documents.signatures import Ending, Receipt
from common.protocol.messages import ENDED
from common.protocol.payload import Payload
from common.protocol.round_notice import RoundNotice
from tests.helpers.end_to_end.identities import Identities

RUN, BLOB = "ab" * 32, b"factors"
HASH = hashlib.sha256(BLOB).hexdigest()
VALUES = {"run": RUN, "round": 3, "attempt": 1, "parent": "02", "base": "ef", "examples": 10, "tokens": 10, "loss": 1.0}
LINE = RoundNotice(run=RUN, round=3, parent="02", adapter="03", updates=["00" * 32, HASH], weight=0.25, clip=0.5)


@pytest.fixture
def identities(tmp_path):
    return Identities(tmp_path, "a", "b")


@pytest.fixture
def auditor(identities, caplog):
    caplog.set_level(logging.INFO)
    return LogAuditor(identities.folder / "b", identities.node("b"))


@pytest.fixture
def signed(identities):
    """Return a round notice whose receipt the server signed, for node b unless another is named."""

    def signed(line=LINE, node="b"):
        receipt = Receipt(
            project="demo",
            run=line.run,
            round=line.round,
            node=node,
            blob_hash=HASH,
            weight=line.weight,
            adapter_hash=line.adapter,
            clip=line.clip,
        )
        return replace(line, signature=signatures.sign(receipt, identities.server().receipt_key).hex())

    return signed


def told(auditor, line):
    auditor.on_notice(line.to_values(), b"")


def kept(identities):
    file = identities.folder / "b" / "b.receipts"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_reply_is_signed_for_this_node(auditor, identities):
    added = auditor.sign(Payload(VALUES, BLOB))
    b = identities.node("b")
    assert signatures.is_signed_reply(VALUES | added, HASH, "demo", "b", b.signing_key.public_key())
    assert not signatures.is_signed_reply(VALUES | added, HASH, "demo", "a", b.signing_key.public_key())
    assert added["roster"] == b.roster.version


def test_a_receipt_behind_one_that_a_crash_cut_short_is_a_line_of_its_own(auditor, identities, signed):
    file = identities.folder / "b" / "b.receipts"
    file.write_text('{"project": "de')
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, signed())
    cut, whole = file.read_text().splitlines()
    assert cut == '{"project": "de'
    assert json.loads(whole)["round"] == 3


def test_a_receipt_is_checked_and_kept(auditor, identities, signed, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, signed())
    (receipt,) = kept(identities)
    assert (receipt["round"], receipt["blob_hash"], receipt["weight"], receipt["clip"]) == (3, HASH, 0.25, 0.5)
    signature = bytes.fromhex(receipt.pop("signature"))
    assert signatures.verify_signature(Receipt(**receipt), signature, identities.node("b").receipt_public_key)
    assert (identities.folder / "b" / "b.receipts").stat().st_mode & 0o777 == 0o600
    assert [record.levelname for record in caplog.records] == ["INFO"]
    told(auditor, signed())  # once more, as after a new connection
    assert len(kept(identities)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 0.5},
        {"clip": 1.0},
        {"adapter": "04"},
        {"signature": ""},
        {"signature": "no hex"},
        {"signature": "00" * 64},
    ],
)
def test_a_receipt_that_the_server_did_not_sign_is_told(auditor, identities, signed, change, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, replace(signed(), **change))
    assert "is not signed by the server's key" in caplog.text
    assert not kept(identities)


def test_a_receipt_for_another_node_is_none(auditor, identities, signed, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, signed(node="a"))
    assert "is not signed by the server's key" in caplog.text


def test_an_update_that_the_log_does_not_have_is_told(auditor, identities, signed, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, replace(signed(), updates=["00" * 32]))
    assert f"round 3: this node's update {HASH[:12]} is missing from the server's log" in caplog.text
    assert not kept(identities)


def test_a_reason_is_told(auditor, identities, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, replace(LINE, updates=[], reason="nan", weight=0.0))
    assert "round 3: this node's update does not count: nan" in caplog.text
    assert "missing" not in caplog.text


def test_a_node_that_is_left_out_is_told_why(auditor, caplog):
    told(auditor, replace(LINE, reason="base", weight=0.0))
    assert "round 3 ran without this node: its base model, tokenizer, targets or labels" in caplog.text


def test_a_round_of_which_nothing_was_told_is_named(auditor, signed, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, replace(LINE, round=2, parent="01", adapter="02"))  # an older one, after a new connection
    assert not caplog.records
    auditor.on_connect()
    told(auditor, replace(LINE, round=4, parent="03", adapter="04"))
    assert "round 3: the server did not report" in caplog.text


def test_a_node_that_restarts_takes_its_receipt_once(auditor, identities, signed, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    restarted = LogAuditor(identities.folder / "b", identities.node("b"))
    told(restarted, signed())
    assert len(kept(identities)) == 1
    for _ in range(2):  # And is greeted with the same round again.
        told(LogAuditor(identities.folder / "b", identities.node("b")), signed())
    assert len(kept(identities)) == 1
    assert "did not report" not in caplog.text


def test_an_update_of_an_attempt_that_was_abandoned_is_forgotten(auditor, identities, signed):
    auditor.sign(Payload(VALUES, b"first attempt"))
    auditor.sign(Payload(VALUES | {"attempt": 2}, BLOB))
    told(auditor, signed())
    assert len(kept(identities)) == 1


def test_an_announcement_is_no_update(auditor, caplog):
    auditor.sign(Payload({"name": "b", "rank": 8}, b""))
    told(auditor, LINE)
    assert not caplog.records


def test_rounds_must_follow_one_another(auditor, caplog):
    told(auditor, LINE)
    assert auditor.on_request("train", {"run": RUN, "round": 4, "parent": "03"}) is None
    told(auditor, replace(LINE, round=4, parent="03", adapter="04"))
    assert not caplog.records
    told(auditor, replace(LINE, round=5, parent="03", adapter="05"))
    assert "round 5 starts from adapter 03, but by the log round 4 ended with 04" in caplog.text
    fault = auditor.on_request("train", {"run": RUN, "round": 6, "parent": "05"})
    assert fault is not None
    assert "round 6 is requested, but after round 4 comes round 5" in fault


def test_what_does_not_follow_has_no_receipt(auditor, identities, signed):
    told(auditor, replace(LINE, round=2, parent="01", adapter="00"))
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, signed())
    assert not kept(identities)


def test_a_clipped_update_is_told(auditor, signed, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, signed(replace(LINE, clip=0.0314159)))
    assert "round 3: the update counts with weight 0.25, clipped to 0.0314 of its length" in caplog.text


def test_an_update_that_is_not_clipped_is_told_without_a_word_of_it(auditor, signed, caplog):
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, signed(replace(LINE, clip=1.0)))
    assert [record.getMessage() for record in caplog.records] == ["round 3: the update counts with weight 0.25"]


def test_an_update_of_a_round_that_the_run_went_back_from_is_forgotten(auditor, identities, caplog):
    for number in (0, 1, 2):
        told(auditor, replace(LINE, round=number, parent=f"0{number - 1}" if number else "", adapter=f"0{number}"))
    auditor.sign(Payload(VALUES, BLOB))
    back = signatures.Return(project="demo", run=RUN, round=1, adapter_hash="01")
    signature = signatures.sign(back, identities.server().receipt_key).hex()
    auditor.on_connect()
    told(auditor, replace(LINE, round=1, parent="00", adapter="01", returned=signature))
    for number in (2, 3):
        told(auditor, replace(LINE, round=number, parent=f"0{number - 1}", adapter=f"0{number}"))
    assert [record.getMessage() for record in caplog.records] == [
        "the run goes back from round 2 to round 1, as its server signed"
    ]


def test_a_newer_roster_is_kept_and_signed_for(auditor, identities):
    before = identities.node("b").roster.version
    identities.revoke("a")
    auditor.on_notice({}, identities.roster)
    assert auditor.sign(Payload(VALUES, BLOB))["roster"] == before + 1
    assert identities.node("b").roster.version == before + 1  # also after a restart


def test_an_older_roster_is_refused(auditor, identities):
    older = identities.roster
    identities.revoke("a")
    auditor.on_notice({}, identities.roster)
    with pytest.raises(IdentityError, match="older"):
        auditor.on_notice({}, older)


def test_a_roster_that_another_key_signed_is_refused(auditor, tmp_path):
    with pytest.raises(IdentityError):
        auditor.on_notice({}, Identities(tmp_path / "other", "b").roster)


def test_a_roster_that_bars_the_node_ends_it(auditor, identities):
    identities.revoke("b")
    with pytest.raises(IdentityError, match="b has been revoked since roster version"):
        auditor.on_notice({}, identities.roster)


@pytest.mark.parametrize("values", [{}, LINE.to_values() | {"round": "3"}, LINE.to_values() | {"more": 1}])
def test_a_notice_of_another_form_is_refused(auditor, values):
    with pytest.raises(TransportError, match="same release"):
        auditor.on_notice(values, b"")


def test_a_receipt_that_cannot_be_kept_ends_nothing(auditor, identities, signed, caplog):
    (identities.folder / "b" / "b.receipts").mkdir()
    auditor.sign(Payload(VALUES, BLOB))
    told(auditor, signed())
    assert "the receipt for round 3 cannot be kept" in caplog.text


def ended(identities, number=3, adapter="03", run=RUN, key=None):
    """Return the values of a request that brings the last global update, as the server signs them."""
    ending = Ending(project="demo", run=run, round=number, adapter_hash=adapter)
    signature = signatures.sign(ending, key or identities.server().receipt_key).hex()
    return {"run": RUN, "round": number, "parent": adapter, ENDED: signature}


def test_the_last_update_that_the_server_signed_may_be_saved(auditor, identities, signed):
    assert auditor.on_request("evaluate", ended(identities)) is None  # also where nothing was told
    told(auditor, signed())
    assert auditor.on_request("evaluate", ended(identities)) is None


@pytest.mark.parametrize("change", [{"round": 4}, {"parent": "04"}, {"run": "cd" * 32}, {ENDED: ""}, {ENDED: 1}])
def test_another_than_the_signed_one_is_not_saved(auditor, identities, change):
    assert "not signed" in auditor.on_request("evaluate", ended(identities) | change)


def test_one_that_another_key_signed_is_not_saved(auditor, identities):
    values = ended(identities, key=identities.node("a").signing_key)
    assert "not signed" in auditor.on_request("evaluate", values)


def test_one_that_is_not_what_the_round_was_told_to_end_with_is_not_saved(auditor, identities, signed):
    told(auditor, signed())
    assert "ended with adapter 04" in auditor.on_request("evaluate", ended(identities, adapter="04"))


ENDING = Ending(project="demo", run="cd" * 32, round=3, adapter_hash="03")


def ending(identities, **changes):
    """Return the values of a request that brings the last update of an earlier run, as the server signed it."""
    signature = signatures.sign(replace(ENDING, **changes), identities.server().receipt_key).hex()
    return {"run": ENDING.run, "round": 3, "parent": "03", ENDED: signature}


def test_what_an_earlier_run_ended_with_is_taken_amid_another_which_goes_on(auditor, identities, caplog):
    told(auditor, LINE)
    assert auditor.on_request("evaluate", ending(identities)) is None
    assert auditor.on_request("train", {"run": RUN, "round": 4, "parent": "03"}) is None
    assert not caplog.records


@pytest.mark.parametrize(
    "change",
    [{"project": "other"}, {"run": RUN}, {"round": 2}, {"adapter_hash": "04"}],
    ids=lambda change: next(iter(change)),
)
def test_a_signature_over_anything_else_is_none(auditor, identities, change):
    assert "is not signed by the server's key" in auditor.on_request("evaluate", ending(identities, **change))


def test_the_signature_of_another_projects_server_is_none(auditor, identities, tmp_path):
    other = Identities(tmp_path / "other", "b")
    assert "is not signed by the server's key" in auditor.on_request("evaluate", ending(other))


def test_another_end_than_the_node_was_told_is_none(auditor, identities):
    told(auditor, replace(LINE, run=ENDING.run, adapter="05"))
    assert "but round 3 with 05" in auditor.on_request("evaluate", ending(identities))
