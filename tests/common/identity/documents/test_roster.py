import json
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IdentityError
from common.identity.documents import roster, signed_json
from common.identity.documents.roster import Member, Roster
from common.identity.keys import files
from common.identity.keys.private_keys import new_signing_key
from tests.helpers.common.identity_parties import NOW, mutations

KEY = new_signing_key()
PUBLIC = KEY.public_key()
MEMBER = Member("hospital-a", b"k" * 32, "0f" * 32, 16, 5000, NOW)
ROSTER = Roster("cardio", 1, {}).successor(MEMBER).successor(replace(MEMBER, name="b", revoked=True))
SIGNED = roster.sign_roster(ROSTER, KEY)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def test_a_roster_is_read_as_it_was_signed() -> None:
    assert roster.read_roster(SIGNED, PUBLIC) == ROSTER
    assert roster.sign_roster(roster.read_roster(SIGNED, PUBLIC), KEY) == SIGNED
    assert roster.read_roster(SIGNED, PUBLIC).members["b"].expires.tzinfo is not None


def test_versions_only_grow() -> None:
    assert ROSTER.version == 3
    assert roster.read_roster(SIGNED, PUBLIC, 3) == ROSTER
    with pytest.raises(IdentityError, match="version 3 is older than version 4"):
        roster.read_roster(SIGNED, PUBLIC, 4)


def test_a_member_is_current_until_it_is_revoked_or_expires() -> None:
    assert ROSTER.member("hospital-a").state(NOW) == "current"
    assert ROSTER.member("hospital-a").state(NOW + timedelta(seconds=1)) == "expired"
    assert ROSTER.member("b").state(NOW) == "revoked"
    with pytest.raises(IdentityError, match=r"'hospital-b' is not a member of project cardio.*hospital-a"):
        ROSTER.member("hospital-b")
    with pytest.raises(IdentityError, match="none yet"):
        Roster("cardio", 1, {}).member("a")


def test_a_successor_leaves_the_roster_before_it_alone() -> None:
    assert ROSTER.successor(replace(MEMBER, max_rank=1)).member("hospital-a").max_rank == 1
    assert ROSTER.member("hospital-a").max_rank == 16


def test_another_key_is_refused() -> None:
    for data, key in (
        (roster.sign_roster(ROSTER, new_signing_key()), PUBLIC),
        (SIGNED, new_signing_key().public_key()),
    ):
        with pytest.raises(IdentityError, match="signature of this roster is wrong"):
            roster.read_roster(data, key)


@given(mutations(SIGNED))
def test_changed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IdentityError):
        roster.read_roster(data, PUBLIC)


@given(st.sampled_from(["project", "version", "members", "other"]), JSON)
def test_a_signed_document_of_another_form_is_refused(field: str, value: object) -> None:
    body = json.loads(SIGNED)["body"]
    if body.get(field, ...) == value:
        return
    with pytest.raises(IdentityError):
        roster.read_roster(signed_body({**body, field: value}), PUBLIC, 1 << 100)


@given(st.sampled_from(list(json.loads(SIGNED)["body"]["members"]["b"])), JSON)
def test_a_signed_member_of_another_form_is_refused(field: str, value: object) -> None:
    body = json.loads(SIGNED)["body"]
    body["members"]["b"][field] = value
    with pytest.raises(IdentityError):
        roster.read_roster(signed_body(body), PUBLIC, 4)


def signed_body(body: object) -> bytes:
    """Any JSON, signed as a roster."""
    signature = KEY.sign(signed_json.signed_bytes("roster", body)).hex()
    document = {"body": body, "kind": "roster", "signature": signature}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_the_forms_above_are_refused_for_their_content_alone() -> None:
    assert signed_body(json.loads(SIGNED)["body"]) == SIGNED
    body = json.loads(SIGNED)["body"]
    body["members"]["b"]["expires"] = "2030-01-01T00:00:00"
    with pytest.raises(IdentityError, match=r"members\.b\.expires.*timezone"):
        roster.read_roster(signed_body(body), PUBLIC)
    body["members"]["b"]["expires"] = "2030-01-01T00:00:00Z"
    assert roster.read_roster(signed_body(body), PUBLIC).members["b"].expires == datetime(2030, 1, 1, tzinfo=UTC)
    body["members"]["c"] = body["members"].pop("b")
    with pytest.raises(IdentityError, match="another name"):
        roster.read_roster(signed_body(body), PUBLIC)


def peak_of(data: bytes) -> int:
    """Return the bytes that reading these allocates at its highest."""
    tracemalloc.start()
    try:
        with pytest.raises(IdentityError):
            roster.read_roster(data, PUBLIC)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_of_what_the_key_has_not_signed_little_is_read() -> None:
    body = json.loads(SIGNED)["body"]
    faulty = {**body, "members": {f"{number}": {} for number in range(20_000)}}
    unsigned = signed_body(faulty).replace(b'"version":3', b'"version":4')
    assert peak_of(unsigned) < 30 * len(unsigned)  # JSON in memory; each fault described takes 600 bytes
    assert peak_of(signed_body(faulty)) < 60 * len(unsigned)
    assert peak_of(b'{"body":' + b"[" * files.LARGEST) < 10_000  # not parsed, since it is too large


@pytest.mark.parametrize(
    "data",
    [
        SIGNED.rstrip(),
        SIGNED + b"\n",
        json.dumps(json.loads(SIGNED)).encode(),
        SIGNED.replace(b'"kind":"roster"', b'"kind":"roster","kind":"roster"'),
        b"[" * 100_000,
        b'{"body":' + b"[" * 900 + b"]" * 900 + b',"kind":"roster","signature":""}\n',
        b'{"body":NaN,"kind":"roster","signature":""}\n',
        b'{"body":' + b"9" * 5000 + b',"kind":"roster","signature":""}\n',
        b'{"body":"\\ud800","kind":"roster","signature":""}\n',
        b'{"body":{},"kind":"roster","signature":7}\n',
        "{}".encode("utf-16"),
        b"",
    ],
)
def test_another_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(IdentityError):
        roster.read_roster(data, PUBLIC)
