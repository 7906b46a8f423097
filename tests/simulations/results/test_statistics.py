import pytest

from simulations.results.records import Record
from simulations.results.statistics import lines


def seeds(*shares, rows=1000, shift=0):
    """One record a seed with this share of right rows, which begin at row `shift`."""
    return {seed: record(right(share, rows, shift), seed) for seed, share in enumerate(shares, 1)}


def right(share, rows, shift):
    bits = "1" * round(share * rows) + "0" * (rows - round(share * rows))
    return bits[-shift:] + bits[:-shift] if shift else bits


def record(bits, seed):
    return Record("a", 1, 0.1, seed, "", 96, bits, 0.0, bits, 0.0, 0, 0, 0, 0.0)


def test_the_share_of_the_gap_that_is_closed():
    reference, pooled, way = seeds(0.2, 0.4), seeds(0.6, 0.8), seeds(0.5, 0.7)
    (line,) = lines([way], pooled, reference)
    assert line.accuracy == pytest.approx(0.6)
    assert line.gain.value == pytest.approx(0.3)
    assert line.closed.value == pytest.approx(0.75)
    assert line.gain.low < 0.3 < line.gain.high
    assert line.closed.low < 0.75 < line.closed.high


def test_the_rows_of_a_seed_are_drawn_in_pairs():
    reference, pooled = seeds(0.5), seeds(0.9)
    same, elsewhere = lines([seeds(0.5), seeds(0.5, shift=500)], pooled, reference)
    assert (same.gain.low, same.gain.high) == (0, 0)
    assert elsewhere.gain.high - elsewhere.gain.low > 0.05


def test_only_seeds_that_the_references_have_count():
    (line,) = lines([seeds(0.5, 0.9)], seeds(0.8), seeds(0.4))
    assert line.accuracy == 0.5
    assert lines([seeds(0.5)], {2: record("1", 2)}, seeds(0.4)) == []


def test_no_gap_has_no_share():
    (line,) = lines([seeds(0.6)], seeds(0.5), seeds(0.5))
    assert line.closed.value != line.closed.value
