"""Adapters that lie in a file: read at each access, from that file, or not at all."""

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import decode_adapter, encode_adapter
from common.errors import RunError
from server.storage.disk_adapter import back_by_file
from tests.helpers.common.buffers import random_adapter

ADAPTER = random_adapter({"q": (6, 5, 2), "up": (3, 9, 4), "none": (3, 4, 0)})
BLOB = encode_adapter(ADAPTER)


@pytest.fixture
def file(tmp_path):
    (tmp_path / "adapter").write_bytes(BLOB)
    return tmp_path / "adapter"


def test_it_is_the_adapter_that_was_viewed(file):
    on_disk = back_by_file(file, BLOB, decode_adapter(BLOB))
    assert encode_adapter(on_disk) == BLOB
    assert (on_disk.rank, on_disk.shapes, list(on_disk)) == (4, ADAPTER.shapes, ["none", "q", "up"])
    with pytest.raises(KeyError):
        on_disk["k"]


def test_it_reads_from_the_file(file):
    on_disk = back_by_file(file, BLOB, decode_adapter(BLOB))
    file.write_bytes(bytes(len(BLOB)))
    assert not on_disk["q"].a.any()
    assert not on_disk["up"].b.any()


def test_what_is_no_view_stays_in_memory(file):
    mixed = Adapter(dict(decode_adapter(BLOB)) | {"q": Factors(decode_adapter(BLOB)["q"].a, np.ones((6, 2)))})
    on_disk = back_by_file(file, BLOB, mixed)
    file.write_bytes(bytes(len(BLOB)))
    assert on_disk["q"].b.all()
    assert not on_disk["q"].a.any()


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_bytes(BLOB[:-1])])
def test_a_file_that_is_gone_or_cut_is_told_by_name(file, spoil):
    on_disk = back_by_file(file, BLOB, decode_adapter(BLOB))
    spoil(file)
    with pytest.raises(RunError, match=r"adapter cannot be read back .*fix the cause"):
        on_disk["up"]
