import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.identity.documents import signatures
from common.identity.documents.signatures import Receipt, Return, Statement, UpdateStatement
from common.identity.documents.signed_json import signed_bytes
from common.identity.keys.private_keys import new_signing_key

KEY = new_signing_key()
PUBLIC = KEY.public_key()
COMMON = {"project": "cardio", "run": "r1", "round": 3, "node": "a", "blob_hash": "ab" * 32}
STATEMENT = UpdateStatement(
    **COMMON,
    roster_version=2,
    attempt=1,
    phase=1,
    parent_hash="0" * 64,
    base_fingerprint="1" * 64,
    configuration_hash="2" * 64,
    counts={"examples": 10, "tokens": 200},
    nonce="00" * 16,
)
RECEIPT = Receipt(**COMMON, weight=0.25, adapter_hash="3" * 64, clip=0.5)
FIRST = replace(RECEIPT, clip=None)
"""A receipt of version 1."""
RETURN = Return(project="cardio", run="r1", round=3, adapter_hash="3" * 64)
VALUES = [STATEMENT, RECEIPT, RETURN]


def other(value: object) -> object:
    if isinstance(value, dict):
        return {**value, "examples": 11}
    return value + 1 if isinstance(value, int | float) else f"{value}x"


@pytest.mark.parametrize("value", VALUES)
def test_what_was_signed_verifies(value: Statement) -> None:
    signature = signatures.sign(value, KEY)
    assert len(signature) == 64
    assert signatures.verify_signature(replace(value), signature, PUBLIC)
    assert not signatures.verify_signature(value, signature, new_signing_key().public_key())
    assert not signatures.verify_signature(value, signatures.sign(value, new_signing_key()), PUBLIC)


@pytest.mark.parametrize(("value", "field"), [(value, field.name) for value in VALUES for field in fields(value)])
def test_each_field_is_signed(value: Statement, field: str) -> None:
    changed = replace(value, **{field: other(getattr(value, field))})
    assert not signatures.verify_signature(changed, signatures.sign(value, KEY), PUBLIC)
    assert signatures.verify_signature(changed, signatures.sign(changed, KEY), PUBLIC)


def test_the_order_of_counts_does_not_matter() -> None:
    turned = replace(STATEMENT, counts=dict(reversed(STATEMENT.counts.items())))
    assert list(turned.counts) != list(STATEMENT.counts)
    assert signatures.verify_signature(turned, signatures.sign(STATEMENT, KEY), PUBLIC)


def test_values_do_not_slide_from_one_field_into_the_next() -> None:
    moved = replace(STATEMENT, project="cardior", run="1")
    assert not signatures.verify_signature(
        moved, signatures.sign(replace(STATEMENT, project="cardio", run="r1"), KEY), PUBLIC
    )


@pytest.mark.parametrize(
    ("value", "own"), [(STATEMENT, ("update", 1)), (RECEIPT, ("receipt", 2)), (RETURN, ("return", 1))]
)
@pytest.mark.parametrize("kind", ["update", "receipt", "return", "roster"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_signature_of_another_kind_is_none(value: Statement, own: tuple[str, int], kind: str, version: int) -> None:
    signature = KEY.sign(signed_bytes(kind, asdict(value), version))
    assert signatures.verify_signature(value, signature, PUBLIC) == ((kind, version) == own)


def test_an_old_receipt_verifies_and_is_none_of_a_clipped_update() -> None:
    """Version 1 states no clip factor: its bytes are those of the releases that made it."""
    body = {name: value for name, value in asdict(RECEIPT).items() if name != "clip"}
    signature = KEY.sign(b"fedlora receipt 1\n" + json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    assert signatures.verify_signature(FIRST, signature, PUBLIC)
    assert signatures.verify_signature(Receipt(**body), signature, PUBLIC)
    assert not signatures.verify_signature(replace(FIRST, clip=1.0), signature, PUBLIC)
    assert not signatures.verify_signature(FIRST, signatures.sign(RECEIPT, KEY), PUBLIC)


@given(st.binary(max_size=80))
def test_other_bytes_are_no_signature(signature: bytes) -> None:
    assert not signatures.verify_signature(STATEMENT, signature, PUBLIC)
