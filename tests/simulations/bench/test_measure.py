import time

import numpy as np
import pytest

from simulations.bench.measure import Comparison, GateError, peak_growth, require, run_in_fresh_process, time_in_turn

MEGABYTE = 2**20


def comparison(ours, theirs, **bounds):
    return Comparison("a figure", ours, theirs, "s", "a peer", **bounds)


def test_a_ratio_is_theirs_over_ours_unless_bounded_from_above():
    assert comparison(2.0, 6.0).ratio == 3
    assert comparison(2.0, 6.0, at_least=1.0).ratio == 3
    assert comparison(2.0, 6.0, at_most=1.0).ratio == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("ours", "theirs", "bounds", "holds"),
    [
        (1.0, 5.0, {"at_least": 5.0}, True),
        (1.0, 4.9, {"at_least": 5.0}, False),
        (1.05, 1.0, {"at_most": 1.05}, True),
        (1.06, 1.0, {"at_most": 1.05}, False),
        (0.5, 1.0, {"at_most": 1.05}, True),
        (9.0, 1.0, {}, True),
    ],
)
def test_a_bound_holds_or_not(ours, theirs, bounds, holds):
    assert comparison(ours, theirs, **bounds).holds == holds


def test_a_gate_comes_back_only_if_it_holds():
    assert require(True, "both sum to 6") == "both sum to 6"
    with pytest.raises(GateError, match="both sum to 6"):
        require(False, "both sum to 6")


def test_works_are_called_in_turn_and_once_more_than_they_are_timed():
    calls = []
    medians = time_in_turn({name: lambda name=name: calls.append(name) for name in ("ours", "theirs")}, 3)
    assert calls == ["ours", "theirs"] * 4
    assert medians.keys() == {"ours", "theirs"}


def test_the_first_run_is_not_measured_and_the_median_is(monkeypatch):
    clock = iter([0, 100, 0, 1, 0, 9, 0, 2])  # start and end of the unmeasured run, then of three
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert time_in_turn({"ours": lambda: None}, 3) == {"ours": 2}


def grown(megabytes):
    return peak_growth(lambda: np.ones(megabytes * MEGABYTE, np.uint8).sum())


def test_the_peak_of_a_process_of_its_own_shows_what_was_allocated_and_freed():
    assert 56 * MEGABYTE < run_in_fresh_process(grown, 64) < 72 * MEGABYTE  # The kernel counts pages roughly.
    assert run_in_fresh_process(grown, 0) < 8 * MEGABYTE  # control


def held_before():
    held = np.ones(64 * MEGABYTE, np.uint8)
    return peak_growth(lambda: held[:1].sum())


def test_memory_from_before_is_no_growth():
    assert run_in_fresh_process(held_before) < 8 * MEGABYTE


def refuse():
    raise GateError("the results differ: in the other process")


def test_a_process_of_its_own_hands_errors_back():
    with pytest.raises(GateError, match="in the other process"):
        run_in_fresh_process(refuse)
