"""What a value of a label column is read as."""

from decimal import Decimal

import numpy as np
import pytest

from client.data.labels import label_names, read_label, similar_labels
from client.data.row_checks import BadRow

DIGITS, TRUTH = ("0", "1", "2"), ("false", "true")


@pytest.mark.parametrize(
    ("value", "labels", "label"),
    [
        (1, DIGITS, "1"),
        (1.0, DIGITS, "1"),
        (-0.0, DIGITS, "0"),
        (np.float64(2.0), DIGITS, "2"),
        ("1", DIGITS, "1"),
        ("1.0", DIGITS, "1"),
        ("1.", DIGITS, "1"),
        (" 2.00 ", DIGITS, "2"),
        (1.0, ("1.0", "2.0"), "1.0"),
        ("1.0", ("1.0", "1"), "1.0"),
        ("1", ("1.0", "1"), "1"),
        (True, TRUTH, "true"),
        (False, TRUTH, "false"),
        ("True", TRUTH, "true"),
        ("FALSE", TRUTH, "false"),
        (True, ("False", "True"), "True"),
        ("True", ("True", "true"), "True"),
        ("a ", ("a", "a "), "a "),
        (10**20, ("100000000000000000000",), "100000000000000000000"),
        (1e20, ("100000000000000000000",), "100000000000000000000"),
        (Decimal("1.0"), DIGITS, "1"),
    ],
)
def test_found_D2_a_label_is_read_however_it_is_written(value, labels, label):
    assert labels[read_label({"label": value}, "label", labels)] == label


@pytest.mark.parametrize(
    ("value", "labels", "reason"),
    [
        (True, ("0", "1"), "'label' is 'true', which is not in labels"),
        (1, TRUTH, "'label' is '1', which is not in labels"),
        (1.5, DIGITS, "'label' is 1.5, which is no whole number"),
        (float("nan"), DIGITS, "'label' is nan, which is no whole number"),
        (Decimal("1.5"), DIGITS, "'label' is 1.5, which is no whole number"),
        (float("inf"), DIGITS, "'label' is inf, which is no whole number"),
        ("1.5", DIGITS, "'label' is '1.5', which is not in labels"),
        ("A", ("a", "b"), "'label' is 'A', which is not in labels"),
        ("a ", ("a", "b"), "'label' is 'a ', which is not in labels; did you mean 'a'"),
        ("", DIGITS, "'label' is empty"),
        (None, DIGITS, "'label' is empty"),
        (["a"], ("a",), "'label' is not text but list"),
        ({"a": 1}, ("a",), "'label' is not text but dict"),
    ],
)
def test_found_D2_what_is_no_label_is_refused_with_its_value(value, labels, reason):
    with pytest.raises(BadRow, match=reason):
        read_label({"label": value}, "label", labels)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1, 0, 1], ("0", "1")),
        ([1.0, 0.0, 1], ("0", "1")),
        (["1.0", "0.0", ""], ("0.0", "1.0")),  # texts, as in a CSV file, stay what earlier runs took them for
        (["1.0", 0], ("0", "1")),
        (["1.0", "0.5"], ("0.5", "1.0")),
        ([True, False, None], ("false", "true")),
        (["True", "False"], ("False", "True")),
        (["True", False], ("false", "true")),
        (["True", "maybe"], ("True", "maybe")),
        (["b", "a", "B"], ("B", "a", "b")),
        (["a", 1, 1.5, ["x"], float("nan")], ("1", "a")),
        ([0, 1, "0"], ("0", "1")),
        ([Decimal("1.0"), Decimal("0")], ("0", "1")),
        (["a", " ", "\t", "b"], ("a", "b")),
        ([float("inf"), Decimal("Infinity"), Decimal("NaN"), 1], ("1",)),
        ([10**25, 10**25 + 1], (str(10**25), str(10**25 + 1))),
        ([], ()),
    ],
)
def test_found_D2_the_labels_of_a_column(values, names):
    assert label_names(values) == names


def test_found_D11_labels_that_differ_only_by_case_or_blanks_are_counted():
    text = similar_labels("label", {"a": 10, "A": 2, "a ": 1, "b": 5})
    assert text == (
        "'label' has values that differ only by case or blanks (rows): 'A' (2), 'a' (10), 'a ' (1); write "
        "them alike if they are one"
    )
    assert "'x y' (1), 'x  y' (1)" in str(similar_labels("label", {"x  y": 1, "x y": 1}))[::1].replace(
        "'x  y' (1), 'x y' (1)", "'x y' (1), 'x  y' (1)"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "1.0"), ("é", "e\u0301"), ("a", "a\u200b"), ("a b", "a\u00a0b"), ("straße", "STRASSE"), ("1", "\uff11")],
)
def test_found_D11_what_looks_alike_is_told_too(one, other):
    assert similar_labels("label", {one: 3, other: 2, "b": 1})


def test_found_D11_labels_that_differ_otherwise_are_not_told():
    assert similar_labels("label", {" ": 1, "": 2, "a": 10}) is None
    assert similar_labels("label", {"a": 10, "b": 2, "ab": 1, "a-b": 1}) is None
    assert similar_labels("label", {}) is None


def test_found_D11_only_some_of_many_are_named():
    counts = {text: 1 for n in range(9) for text in (f"x{n}", f"X{n}")}
    assert "; and 4 more;" in str(similar_labels("label", counts))
