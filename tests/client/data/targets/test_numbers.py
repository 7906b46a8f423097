"""Row D12: numbers to learn, as files write them."""

import numpy as np
import pytest

from client.data.row_checks import BadRow
from client.data.targets.numbers import as_number, count_outputs, read_numbers


def read(value, outputs=("score",)):
    return read_numbers({"label": value}, "label", outputs).tolist()


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (3.5, 3.5), ("3.5", 3.5), (" -2 ", -2), ("1e-3", 1e-3), (".5", 0.5), ("7.", 7), ([4], 4), ("[4.5]", 4.5)],
)
def test_found_D12_a_number_is_read_however_it_is_written(value, number):
    assert read(value) == [pytest.approx(number)]
    assert read_numbers({"label": value}, "label", ("x",)).dtype == np.float32


def test_found_D12_several_outputs_have_a_number_each():
    for value in ([1, 2.5], (1, 2.5), "1|2.5", "[1, 2.5]", "1; 2.5"):
        assert read(value, ("x", "y")) == [1, 2.5]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "'label' is empty"),
        ("", "'label' is empty"),
        (
            "good",
            "'label' is 'good', which is no number; for labels, set problem_type = \"single_label_classification\"",
        ),
        ("1,5", "'label' is '1,5', which is no number (write a point for the comma)"),
        ("1_000", "which is no number"),
        (True, "'label' is True, which is no number"),
        (["a"], "'label' is 'a', which is no number"),
        ([None], "'label' is None, which is no number"),
        (float("nan"), "'label' is nan, which is no finite number of 32 bits; correct or remove the row"),
        (float("inf"), "no finite number"),
        ("NaN", "no finite number"),
        ("-Infinity", "no finite number"),
        ("1e999", "no finite number"),
        (1e39, "no finite number"),
        (10**400, "no finite number"),
        ([1, 2], "'label' has 2 numbers for 1 output (score); set labels to a name for each output"),
        ([], "'label' has 0 numbers for 1 output"),
        ({"a": 1}, "which is no number"),
    ],
)
def test_found_D12_what_is_no_number_is_refused(value, reason):
    with pytest.raises(BadRow) as error:
        read(value)
    assert reason in str(error.value)


def test_found_D12_the_first_row_with_numbers_says_how_many_there_are():
    assert count_outputs([None, "x", [1, 2, 3]]) == 3
    assert count_outputs(["1.5", [1, 2]]) == 1
    assert count_outputs([]) == count_outputs(["x"]) == 1


def test_a_truth_value_and_a_word_are_no_numbers():
    assert [as_number(each) for each in (True, "x", None, "12", 1)] == [None, None, None, 12.0, 1.0]
