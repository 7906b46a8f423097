import re

from hypothesis import given
from hypothesis import strategies as st

from simulations.partition.node_names import node_names

NODE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")  # common.settings.Node.name


@given(st.lists(st.text(max_size=80), unique=True, max_size=12))
def test_names_are_valid_and_differ(values):
    result = node_names(values)
    assert len(result) == len({name.casefold() for name in result}) == len(values)
    assert all(NODE_NAME.match(name) for name in result)


def test_names_stay_readable():
    assert node_names(["a b", "a-b", "A_B", "a-b-2", "", "x" * 70, "x" * 71]) == (
        "a-b",
        "a-b-2",
        "A_B",
        "a-b-2-2",
        "client",
        "x" * 64,
        "x" * 62 + "-2",
    )
