import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.report import formats


@pytest.mark.parametrize("show", [formats.decimal, formats.percent, formats.small, formats.size, formats.duration])
def test_a_missing_number_is_a_dash_and_zero_is_not(show):
    assert show(None) == "–"
    assert show(0.0).startswith("0")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "999 B"),
        (1000, "1 kB"),
        (276_480, "276 kB"),
        (999_700, "1 MB"),
        (1.2e6, "1.2 MB"),
        (3e9, "3 GB"),
        (5e13, "50 TB"),
    ],
)
def test_sizes_use_decimal_units(count, text):
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(14.24, "14.2 s"), (59.97, "1 min 00 s"), (128, "2 min 08 s"), (3599.8, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert formats.duration(seconds) == text


def test_shares_and_errors():
    assert (formats.percent(0.0667), formats.small(3.14e-16), formats.decimal(2.10449)) == ("6.7%", "3.1e-16", "2.104")


@given(st.sets(st.integers(0, 60), max_size=12))
def test_spans_name_every_number_once(numbers):
    text = formats.spans(sorted(numbers))
    ends = [[int(end) for end in span.split("–")] for span in text.split(", ") if span]
    named = [number for first, *last in ends for number in range(first, (last or [first])[0] + 1)]
    assert named == sorted(numbers)


def test_spans_draw_runs_together():
    assert formats.spans([1, 2, 3, 7, 9, 10]) == "1–3, 7, 9–10"


def test_of_many_spans_the_first_are_spelt():
    assert formats.spans(range(1, 40, 2)) == "1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23 and 8 more"


def test_a_loss_that_exploded_stays_short():
    assert formats.decimal(1e300) == "1e+300"
