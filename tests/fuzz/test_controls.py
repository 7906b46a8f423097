"""That the fuzz finds what it looks for, if it is there."""

import pytest
from hypothesis import settings

from common.adapters import codec
from common.errors import CodecError
from tests.fuzz.mutations import VALUES, Case, change_bytes, change_tree, write_json
from tests.fuzz.target import Target, check_depth, many
from tests.fuzz.test_codec import CODEC

few = settings(many, max_examples=300)


def test_a_planted_key_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(layout: codec.CodecHeader, limits: codec.DecodeLimits) -> None:
        if any(module.d > 100 for module in layout.modules.values()):
            raise KeyError("planted")

    CODEC.fuzz(few)  # without it
    monkeypatch.setattr(codec, "_check_limits", planted)
    with pytest.raises(KeyError, match="planted"):
        CODEC.fuzz(settings(many, max_examples=1000))


def test_a_planted_allocation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = codec.decode_adapter
    monkeypatch.setattr(
        "tests.fuzz.test_codec.decode_adapter", lambda blob, known: (bytes(2**18), whole(blob, known=known))
    )
    with pytest.raises(AssertionError, match="bytes for an input of"):
        CODEC.fuzz(few)


def test_a_fuzz_that_stays_at_the_first_check_is_found() -> None:
    told = Target(lambda case: b"x" * case.choice.bit_length(), codec.decode_adapter, (CodecError,), 2**17, []).fuzz(
        few
    )
    with pytest.raises(AssertionError):
        check_depth(told, errors=2)


def test_a_change_keeps_most_and_repeats() -> None:
    case = Case(0, [(0, 5, 3)])
    assert change_bytes(b"0123456789", case.changes) == change_bytes(b"0123456789", case.changes) == b"01234=6789"
    tree = {"a": [1, 2], "b": {"c": 3}}
    changed = [
        change_tree(tree, [(kind, place, number)]) for kind in range(8) for place in range(6) for number in range(60)
    ]
    assert tree == {"a": [1, 2], "b": {"c": 3}}
    assert len({repr(each) for each in changed}) > 100
    assert b"1e999" in write_json({"a": "raw infinite"}) and "raw infinite" in VALUES
