"""Traffic by part: the parts add up to all bytes, in runs that tell them and in older ones."""

import pytest

from common.report.curves import traffic
from common.report.history import add_up
from common.report.traffic import LABELS
from tests.helpers.simulations.metrics import client, record, rounds


def told(number, round_number, **parts):
    return client(number, round_number, bytes_by_part=parts, bytes_down=sum(parts.values()))


RECORDS = [
    record(0, [told(c, 0, evaluation=50) for c in range(2)]),
    record(1, [told(c, 1, whole=400, factors=100) for c in range(2)]),
    record(2, [told(c, 2, change=40, factors=100, evaluation=10) for c in range(2)]),
]


def test_the_parts_are_summed_and_those_that_a_run_has_not_are_left_out():
    found = {part.label: part for part in add_up(RECORDS).parts}
    sizes = {"whole": 800, "change": 80, "factors": 400, "evaluation": 120, "up": 4000}
    assert {label: part.total for label, part in found.items()} == {LABELS[name]: n for name, n in sizes.items()}
    assert found[LABELS["factors"]].mean == 100  # four turns of two clients in two rounds
    assert sum(part.share for part in found.values()) == pytest.approx(1)


def test_an_older_run_tells_up_and_down_alone():
    found = add_up(rounds(3)).parts
    assert [part.label for part in found] == [LABELS["down"], LABELS["up"]]
    assert found[0].total == sum(each["bytes_down"] for each in rounds(3))


def test_a_run_in_which_nothing_was_sent_has_none():
    assert add_up([record(0, [])]).parts == []


@pytest.mark.parametrize("part", LABELS)
def test_the_figure_has_each_part_that_the_table_has(part):
    drawn = traffic([{"round": number, "parts": {part: 1000}} for number in range(2)])
    assert [line.get_label() for line in drawn.axes[0].get_lines()] == [f"{part}: 2 kB"]
