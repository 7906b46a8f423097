"""What a node announces of runs that it lacks, and of rows that it left out."""

import pytest

from common.huggingface.model_description import ModelDescription
from common.protocol.announcement import Announcement

MODEL = ModelDescription("f", "classification", {"query": (2, 3)})
RUNS = ("a" * 64, "b" * 64)


def test_unfinished_runs_are_told():
    node = Announcement("ada", 1, 2, MODEL, saves=True, unfinished=RUNS)
    assert Announcement.from_values(node.to_values()) == node
    assert "unfinished" not in Announcement("ada", 1, 2, MODEL).to_values()


@pytest.mark.parametrize(
    "value",
    [
        "a" * 64,
        ("a" * 64,),
        [1],
        [None],
        ["a" * 63],
        ["A" * 64],
        ["a" * 64 + "\n"],
        ["../" + "a" * 61],
        17 * ["a" * 64],
    ],
)
def test_anything_else_is_malformed(value):
    values = Announcement("ada", 1, 2, MODEL).to_values() | {"unfinished": value}
    with pytest.raises(ValueError, match="unfinished"):
        Announcement.from_values(values)


@pytest.mark.parametrize("skipped", [0, 1, 10**12])
def test_found_D7_rows_that_are_left_out_are_announced(skipped):
    announced = Announcement("n", 1, 2, MODEL, 3, skipped=skipped)
    assert Announcement.from_values(announced.to_values()).skipped == skipped
    assert ("skipped" in announced.to_values()) == bool(skipped)  # an announcement without any is as it was


@pytest.mark.parametrize("skipped", [-1, 10**12 + 1, True, "3", 1.0, None])
def test_another_number_is_refused(skipped):
    values = Announcement("n", 1, 2, MODEL, 3).to_values()
    with pytest.raises(ValueError, match="skipped is not a number of rows"):
        Announcement.from_values(values | {"skipped": skipped})
