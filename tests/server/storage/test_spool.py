"""Updates and states in a spool read as the adapters they were, one module at a time."""

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import DecodeLimits, decode_adapter, encode_adapter
from common.errors import RunError
from common.protocol.assignment import Assignment, Update
from common.protocol.messages import pack_update, unpack_update
from server.algorithms.base import store_in_memory
from server.storage.spool import spool_state, spool_update
from tests.helpers.common.buffers import random_adapter
from tests.helpers.common.disk_faults import largest_file

ADAPTER = random_adapter({"q": (6, 5, 2), "up": (3, 9, 4), "none": (3, 4, 0)})


def same(left, right):
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16", "f64"])
def test_it_reads_back_what_was_sent(dtype, tmp_path):
    blob = encode_adapter(ADAPTER, dtype)
    sent = decode_adapter(blob)
    back = spool_update(tmp_path / "ada", blob, sent)
    assert list(back) == list(sent)
    assert len(back) == 3
    for name, factors in sent.items():
        assert same(back[name].a, factors.a)
        assert same(back[name].b, factors.b)


def test_what_was_not_sent_stays_in_memory(tmp_path):
    """A lent A, and a b that is zero."""
    assignment = Assignment(Adapter(), random_adapter({"q": (6, 5, 4)}, seed=1), "b")
    lent = Factors(assignment.start["q"].a[:2], ADAPTER["q"].b)
    blob = pack_update(Update(Adapter({"q": lent}), 1, 1, 0.0), "b")
    back = spool_update(tmp_path / "ada", blob, unpack_update(blob, assignment, DecodeLimits()))
    (tmp_path / "ada").write_bytes(bytes(len(blob)))
    assert same(back["q"].a, lent.a)
    assert not back["q"].b.any()
    blob = encode_adapter(ADAPTER, omit={"q.b"})
    zero = spool_update(tmp_path / "bob", blob, decode_adapter(blob))["q"]
    assert same(zero.a, ADAPTER["q"].a)
    assert same(zero.b, np.zeros((6, 2), "f4"))


def test_what_it_gives_cannot_be_changed(tmp_path):
    blob = encode_adapter(ADAPTER)
    factors = spool_update(tmp_path / "ada", blob, decode_adapter(blob))["q"]
    with pytest.raises(ValueError, match="read-only"):
        factors.a[0] = 1
    with pytest.raises(KeyError):
        spool_update(tmp_path / "ada", blob, decode_adapter(blob))["k"]


def test_a_full_disk_is_told_by_file_and_cause(tmp_path):
    blob = encode_adapter(ADAPTER)
    with largest_file(len(blob) - 1), pytest.raises(RunError, match=r"cannot keep .*ada .*: File too large"):
        spool_update(tmp_path / "ada", blob, decode_adapter(blob))
    spool_update(tmp_path / "ada", blob, decode_adapter(blob))


def modules(dtype="f4"):
    """Modules with their factors in two parts, the second without one of them."""
    other = random_adapter({"q": (6, 5, 3), "up": (3, 9, 1)}, seed=1, dtype=dtype)
    return [(name, {"mass": f} | ({"next": other[name]} if name in other else {})) for name, f in ADAPTER.items()]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_parts_of_a_state_are_read_back(dtype, tmp_path):
    parts, expected = spool_state(tmp_path / "state", iter(modules(dtype))), store_in_memory(modules(dtype))
    assert parts.keys() == expected.keys() == {"mass", "next"}
    for part, adapter in expected.items():
        assert list(parts[part]) == list(adapter)
        for name, factors in adapter.items():
            assert same(parts[part][name].a, factors.a)
            assert same(parts[part][name].b, factors.b)


def test_a_module_is_on_disk_before_the_next_one_is_asked_for(tmp_path):
    """Nothing else would keep memory at one module."""

    def each():
        for number, module in enumerate(large):
            assert (tmp_path / "state").stat().st_size == number * 2 * 2**20
            yield module

    large = [(name, {"mass": random_adapter({"m": (512, 512, 512)})["m"]}) for name in "abc"]
    assert len(spool_state(tmp_path / "state", each())["mass"]) == 3


def test_factors_in_any_order_in_memory_are_kept(tmp_path):
    turned = Factors(np.asfortranarray(ADAPTER["up"].a), ADAPTER["up"].b[:, ::-1])
    back = spool_state(tmp_path / "state", [("up", {"mass": turned})])["mass"]["up"]
    assert same(back.a, turned.a)
    assert same(back.b, turned.b)


def test_a_full_disk_costs_the_state_and_not_the_run(tmp_path):
    with largest_file(100), pytest.raises(RunError, match=r"cannot keep .*state .*: File too large"):
        spool_state(tmp_path / "state", modules())
    spool_state(tmp_path / "state", modules())
