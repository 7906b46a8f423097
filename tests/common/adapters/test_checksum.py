import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapters import checksum
from common.adapters.checksum import join_with_crc


def start(crc):
    return b"<%08x>" % crc


def of_all(parts):
    return join_with_crc(start, sum(map(len, parts)), iter(parts))


def joined(parts):
    whole = b"".join(parts)
    return start(zlib.crc32(whole)) + whole


@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
def test_parts_follow_each_other_after_their_checksum(parts, large):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checksum, "_LARGE", 1 if large else 2**22)
        assert of_all([memoryview(part) if i % 2 else part for i, part in enumerate(parts)]) == joined(parts)


def test_a_large_buffer_is_bytes_of_its_own():
    source = np.arange(2**21, dtype=np.uint32)
    part = source.view(np.uint8).data
    sealed, expected = of_all([b"head", part]), joined([b"head", part])
    source[:] = 0
    assert type(sealed) is bytes
    assert sealed == expected
    assert sealed != joined([b"head", part])  # control


def test_two_large_buffers_share_nothing():
    ones, twos = (of_all([bytes([i]) * 2**22]) for i in (1, 2))
    assert (set(ones[10:]), set(twos[10:])) == ({1}, {2})
