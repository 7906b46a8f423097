"""Arms at their best rate, and a study that goes on where it was stopped."""

import os
import signal
from dataclasses import dataclass

import pytest

from common.errors import ModelError, RunError
from simulations.studies.engine.outcomes import OutcomeFolder
from simulations.studies.engine.runner import run_arms
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm
from simulations.studies.methods.bottleneck import Bottleneck
from simulations.studies.methods.low_rank import LowRank
from tests.helpers.end_to_end.command import TINY

pytestmark = pytest.mark.slow

SETTING = Setting(TINY, ("train.rounds=1", "train.steps=30", "data.test_rows=40"), 2)
ARMS = [Arm("good and bad", LowRank(4), (1e-6, 3e-2)), Arm("another", LowRank(2), (3e-2,), keeps=True)]


def test_rates_are_chosen_and_a_second_call_trains_nothing(tmp_path):
    folder = OutcomeFolder(tmp_path)
    found = run_arms(SETTING, ARMS, folder, workers=2)
    assert [outcome.rate for outcome in found["good and bad"]] == [3e-2, 3e-2]
    assert [outcome.seed for outcome in found["another"]] == [1, 2]
    assert all(outcome.update for outcome in found["another"])
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len([file for file in files if file.suffix == ".json"]) == 5
    assert run_arms(SETTING, ARMS, folder, workers=2) == found
    next(file for file in files if file.name.startswith("another-2") and file.suffix == ".json").unlink()
    assert run_arms(SETTING, ARMS, folder, workers=1)["another"][1].right == found["another"][1].right
    left = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert sum(left[file] != when for file, when in files.items()) == 2  # its outcome and its update


def test_a_method_without_a_place_is_named_before_anything_is_trained(tmp_path):
    arms = [*ARMS, Arm("compact", Bottleneck(4, "P", kronecker=3), (3e-2,))]
    with pytest.raises(ModelError, match="n = 3 does not divide"):
        run_arms(SETTING, arms, OutcomeFolder(tmp_path), workers=1)
    assert not [*tmp_path.iterdir()]


@dataclass(frozen=True)
class Killed(LowRank):
    def targets(self, base):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told_with_what_goes_on(tmp_path):
    with pytest.raises(
        RunError, match=r"ended from outside, as where memory is short \(workers = 1\); the same command"
    ):
        run_arms(SETTING, [Arm("it", Killed(2), (1e-2,))], OutcomeFolder(tmp_path), workers=1)


def test_the_error_of_a_trial_reaches_the_caller(tmp_path):
    with pytest.raises(Exception, match="set count to 100 or more"):
        run_arms(SETTING, [Arm("it", LowRank(2), (1e-2,), of=99)], OutcomeFolder(tmp_path), workers=1)
