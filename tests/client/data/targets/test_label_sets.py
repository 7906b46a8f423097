"""Row D12: sets of labels, as files write them."""

import numpy as np
import pytest

from client.data.row_checks import BadRow
from client.data.targets.label_sets import label_set_names, read_label_set

LABELS = ("a", "b", "c, d")


def read(value, labels=LABELS):
    return read_label_set({"label": value}, "label", labels).tolist()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["b"], [0, 1, 0]),
        (["b", "a"], [1, 1, 0]),
        (["a", "a"], [1, 0, 0]),
        ([], [0, 0, 0]),
        ("[]", [0, 0, 0]),
        ('["a", "c, d"]', [1, 0, 1]),
        ("a|b", [1, 1, 0]),
        ("a; b", [1, 1, 0]),
        ("a|c, d", [1, 0, 1]),
        ("c, d", [0, 0, 1]),
        ("a", [1, 0, 0]),
        ([0, 1, 1], [0, 1, 1]),
        ([1.0, 0.0, 0.0], [1, 0, 0]),
        ([True, False, True], [1, 0, 1]),
        ("[0, 0, 1]", [0, 0, 1]),
    ],
)
def test_found_D12_a_set_of_labels_is_read_however_it_is_written(value, found):
    assert read(value) == found
    assert read_label_set({"label": value}, "label", LABELS).dtype == np.float32


def test_found_D12_ids_are_labels_where_zero_or_one_is_one():
    assert read([0, 2], ("0", "1", "2")) == [1, 0, 1]
    assert read([0, 1, 1], ("0", "1", "2")) == [1, 1, 0]  # no vector, which would be the last two
    assert read([0, 1, 1], ("x", "y", "z")) == [0, 1, 1]  # control: there it is
    assert read([7.0], ("7", "8")) == [1, 0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "'label' is empty; write [] for a row without labels"),
        ("", "'label' is empty; write [] for a row without labels"),
        (["x"], "'label' is 'x', which is not in labels"),
        ("a|x", "'label' is 'x', which is not in labels"),
        ("a, b", "'label' is 'a, b', which is not in labels"),
        ([7], "'label' is '7', which is not in labels"),
        ([1, 0], "'label' has 2 zeros and ones, and there are 3 labels"),
        ([1, 0, 1, 0], "'label' has 4 zeros and ones, and there are 3 labels"),
        (["a", None], "write a list of labels, or 0 or 1 for each of 3 labels"),
        ([["a"]], "write a list of labels"),
        ({"a": 1}, "write a list of labels"),
        (["a", 1.5], "'label' is 1.5, which is no whole number"),
        (float("nan"), "'label' is nan"),
        ([""], "'label' is empty"),
    ],
)
def test_found_D12_what_is_no_set_of_labels_is_refused(value, reason):
    with pytest.raises(BadRow) as error:
        read(value)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([["b", "a"], [], ["a"], None], ("a", "b")),
        (["b|a", "c", "[]", ""], ("a", "b", "c")),
        ([[3, 1], [2]], ("1", "2", "3")),
        ([[0, 1, 1], [0, 0, 0]], ("LABEL_0", "LABEL_1", "LABEL_2")),
        ([[0, 1], [1, 0]], ("LABEL_0", "LABEL_1")),
        ([[0], [1]], ("0", "1")),  # ids: one of them in each row
        ([[0, 1, 1], [0, 2]], ("0", "1", "2")),
        (["a, b", "c"], ("c",)),  # the row is refused as it is read, with how to write it
        ([[], None], ()),
    ],
)
def test_found_D12_the_labels_of_a_column_of_sets(values, names):
    assert label_set_names(values) == names


def test_found_D12_a_comma_in_a_text_is_answered_with_what_separates_labels():
    with pytest.raises(BadRow, match=r"a comma separates no labels: write \| or ; between them, or a list in JSON"):
        read("a, b")
    with pytest.raises(BadRow) as error:
        read("a b")
    assert "comma" not in str(error.value)  # control
