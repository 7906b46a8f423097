"""Adapters that travel together under one roof, and come apart as they were."""

from hypothesis import given
from hypothesis import strategies as st

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.adapters.joined import join_adapters, split_adapters
from tests.helpers.common.buffers import random_adapter

words = st.text("abc./-", min_size=1, max_size=4)
parts = st.text("abc.-", min_size=1, max_size=4)
adapters = st.builds(random_adapter, st.dictionaries(words, st.just((3, 2, 1)), min_size=1, max_size=3))


@given(st.dictionaries(parts, adapters, max_size=4))
def test_what_is_joined_comes_apart_as_it_was(held):
    joined = join_adapters(**held)
    back = split_adapters(joined)
    assert back.keys() == held.keys()
    assert all(encode_adapter(back[part]) == encode_adapter(adapter) for part, adapter in held.items())
    flat = {f"{part}/{name}": factors for part, adapter in held.items() for name, factors in adapter.items()}
    assert list(joined) == list(Adapter(flat))
    assert encode_adapter(joined) == encode_adapter(Adapter(flat))


class Counted(Adapter):
    """Counts how often a module is asked for."""

    asked = 0

    def __getitem__(self, name):
        self.asked += 1
        return super().__getitem__(name)


def test_a_joined_module_is_read_when_it_is_asked_for():
    part = Counted(random_adapter({"q": (3, 2, 1), "v": (3, 2, 1)}))
    joined = join_adapters(frozen=part)
    assert (list(joined), len(joined), part.asked) == (["frozen/q", "frozen/v"], 2, 0)
    assert joined["frozen/v"] is part["v"]
