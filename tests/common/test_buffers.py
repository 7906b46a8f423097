import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import buffers
from common.buffers import join


@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
def test_parts_follow_each_other(parts, large):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "_LARGE", 1 if large else 2**22)
        assert join([memoryview(part) if i % 2 else part for i, part in enumerate(parts)]) == b"".join(parts)


def test_a_large_buffer_is_bytes_of_its_own():
    source = np.arange(2**21, dtype=np.uint32)
    part = source.view(np.uint8).data
    joined = join([b"head", part])
    before = bytes(part)
    source[:] = 0
    assert type(joined) is bytes
    assert joined == b"head" + before
    assert joined != b"head" + bytes(part)  # control


def test_two_large_buffers_share_nothing():
    ones, twos = (join([bytes([i]) * 2**22]) for i in (1, 2))
    assert (set(ones), set(twos)) == ({1}, {2})
