"""A budget in each of its forms, and what is none."""

import pytest

from common.errors import ConfigError
from common.planning.budget import budget_parameters


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("0.1%", 22_713),
        ("100%", 22_713_216),
        ("50000", 50_000),
        (50_000, 50_000),
        ("4 B", 1),
        ("300 kB", 75_000),
        ("300kB", 75_000),
        ("1.5 MB", 375_000),
        ("1 GB", 250_000_000),
        ("2 KiB", 512),
        ("1 MiB", 262_144),
        ("1 GiB", 268_435_456),
    ],
)
def test_a_share_a_number_and_bytes(budget, expected):
    assert budget_parameters(budget, 22_713_216) == expected


NONE = ["", "%", "-1", "1 TB", "1e3", "0,1%", "half", "1 % ", "٣", "nan", "9" * 400, 10**400]
"""Of the last two a binary number is infinite."""


@pytest.mark.parametrize("budget", NONE, ids=range(len(NONE)))
def test_anything_else_is_refused_with_what_would_work(budget):
    with pytest.raises(ConfigError, match=r"is no budget; write .*0\.1%.*50000.*300 kB"):
        budget_parameters(budget, 1000)


@pytest.mark.parametrize(("budget", "base", "expected"), [("0.7%", 1000, 7), ("0.57%", 10_000, 57), ("2.9%", 1000, 29)])
def test_a_share_is_taken_in_decimal_digits(budget, base, expected):
    assert budget_parameters(budget, base) == expected
