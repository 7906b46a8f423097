"""Outcomes on the disk: as they were written, damaged, and keyed by all that they depend on."""

from dataclasses import replace

import pytest

from common.errors import JournalError
from simulations.studies.engine.outcomes import Outcome, OutcomeFolder, key_of
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Trial
from simulations.studies.engine.trial import trial_key
from simulations.studies.methods.low_rank import LowRank
from tests.helpers.client.training import same_bits
from tests.helpers.common.models import random_adapter
from tests.helpers.end_to_end.command import TINY

UPDATE = random_adapter({"q": (4, 3), "v": (4, 3)}, (2,))
OUTCOME = Outcome("r = 2", 0.1, 1, 28, "0110", 0.7, "011", 0.6, 0.9, 1.5, UPDATE)


def test_an_outcome_is_read_as_it_was_written(tmp_path):
    folder = OutcomeFolder(tmp_path / "trials")
    assert folder.get("a") is None
    folder.add("a", OUTCOME)
    found = folder.get("a")
    assert found == OUTCOME
    assert same_bits(found.update, UPDATE)
    assert (found.accuracy, found.merit) == (0.5, (2 / 3, -0.6))


@pytest.mark.parametrize("damage", ['{"arm": ', "{}", "[]"])
def test_a_damaged_outcome_is_named_with_the_remedy(damage, tmp_path):
    folder = OutcomeFolder(tmp_path)
    folder.add("a", OUTCOME)
    (tmp_path / "a.json").write_text(damage)
    with pytest.raises(JournalError, match=r"a.json is not the outcome of a trial .*; remove it, and it runs again"):
        folder.get("a")


def test_a_key_is_a_file_name_of_all_that_a_trial_depends_on():
    arm = Arm("Wq, Wv: r = 2", LowRank(2), (0.1,))
    setting, trial = Setting(TINY, (), 2), Trial(arm, 0.1, 1)
    key = trial_key(setting, trial)
    assert key.startswith("wq-wv-r-2-1-")
    others = [
        trial_key(setting, replace(trial, rate=0.2)),
        trial_key(setting, replace(trial, seed=2)),
        trial_key(setting, replace(trial, arm=replace(arm, method=LowRank(3)))),
        trial_key(setting, replace(trial, arm=replace(arm, rows=9))),
        trial_key(Setting(TINY, ("train.steps=9",), 2), trial),
        trial_key(Setting(TINY, (), 2, quick=True), trial),
    ]
    assert len({key, *others}) == 1 + len(others)
    assert key == trial_key(Setting(TINY, (), 5), trial)  # more seeds go on with those that there are
    assert key_of("a", [1]) != key_of("a", [2])
