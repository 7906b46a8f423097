import numpy as np
import pytest

from common.settings.recipe import Train
from server.rounds.run_settings import learning_rates

SCHEDULES = ("constant", "linear", "cosine")


def whole_run(**settings):
    """Return the rates of all steps of all rounds."""
    train = Train(**({"rounds": 4, "steps": 5, "lr": 0.1, "warmup": 0} | settings))
    return [rate for number in range(1, train.rounds + 1) for rate in learning_rates(train, number)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_schedule_spans_all_rounds(schedule):
    rates = whole_run(schedule=schedule)
    assert rates == whole_run(schedule=schedule, rounds=20, steps=1) == whole_run(schedule=schedule, rounds=1, steps=20)
    assert rates[0] == 0.1
    assert len(rates) == 20


def test_the_schedules_are_what_they_say():
    done = np.arange(20) / 20
    assert np.allclose(whole_run(schedule="constant"), 0.1)
    assert np.allclose(whole_run(schedule="linear"), 0.1 * (1 - done))
    assert np.allclose(whole_run(schedule="cosine"), 0.05 * (1 + np.cos(np.pi * done)))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_round_warms_up(schedule):
    plain, warm = whole_run(schedule=schedule), whole_run(schedule=schedule, warmup=3)
    assert np.allclose(np.divide(warm, plain), [0.25, 0.5, 0.75, 1, 1] * 4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_step_is_made_at_rate_0(schedule):
    assert min(whole_run(schedule=schedule, warmup=50)) > 0
    assert min(whole_run(schedule=schedule, rounds=1, steps=1)) > 0
