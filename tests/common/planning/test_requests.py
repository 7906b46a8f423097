"""Energies on the way: a node's vote is bounded, and what is no vote is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.planning.requests import LARGEST_SUM, EnergiesReply, clip_energies
from common.protocol.messages import RoundId
from common.protocol.payload import Payload
from common.protocol.values import InvalidValue

ID = RoundId("run", 0, "parent", "base").to_values()


def reply(energies, **values):
    return Payload({**ID, "energies": energies, "parameters": 10, **values})


@given(st.lists(st.floats(0, 1e30), min_size=1, max_size=300))
def test_what_a_node_sends_is_read(energies):
    clipped = clip_energies(energies)
    assert EnergiesReply.from_reply(reply(clipped), len(energies)).energies == clipped
    assert sum(clipped) <= LARGEST_SUM * 1.01
    largest = energies.index(max(energies))
    assert clipped[largest] == max(clipped)


def test_small_energies_stay_and_large_ones_keep_their_ratio():
    assert clip_energies([0.25, 0.5]) == [0.25, 0.5]
    assert clip_energies([300.0, 100.0]) == [0.75, 0.25]
    assert clip_energies([0.123456]) == [0.123]


@pytest.mark.parametrize(
    "energies",
    [
        *([], [0.1], [0.1] * 3, [0.1, -0.1], [0.9, 0.9], [1e308, 1e308]),
        *([float("nan"), 0.1], [float("inf"), 0.1], [1, 0.1], "0.1", None),
    ],
)
def test_what_is_no_vote_is_malformed(energies):
    with pytest.raises(InvalidValue):
        EnergiesReply.from_reply(reply(energies), 2)
    assert EnergiesReply.from_reply(reply([0.1, 0.1]), 2).parameters == 10  # control


@pytest.mark.parametrize("parameters", [0, -1, 1.5, "10", None])
def test_the_parameters_of_the_base_are_a_positive_number(parameters):
    with pytest.raises(InvalidValue):
        EnergiesReply.from_reply(reply([0.1], parameters=parameters), 1)
