"""Outcomes on the disk: as they were written, damaged, and keyed by all that they depend on."""

import json
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


@pytest.mark.parametrize("damage", [None, b"", b"other", "another trial's"])
def test_an_update_that_is_not_the_one_that_was_written_is_named(damage, tmp_path):
    folder, file = OutcomeFolder(tmp_path), tmp_path / "a.update"
    folder.add("a", OUTCOME)
    folder.add("b", replace(OUTCOME, update=random_adapter({"q": (4, 3), "v": (4, 3)}, (1,))))
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage if isinstance(damage, bytes) else (tmp_path / "b.update").read_bytes())
    with pytest.raises(JournalError, match=r"a.json is not the outcome .*a.update.*; remove it, and it runs"):
        folder.get("a")
    folder.get("b")  # control


@pytest.mark.parametrize(
    "values", [{"right": ""}, {"right": "012"}, {"valid_right": None}, {"rate": "x"}, {"loss": None}, {"seed": True}]
)
def test_values_that_no_trial_comes_to_are_named(values, tmp_path):
    folder = OutcomeFolder(tmp_path)
    folder.add("a", replace(OUTCOME, **values))
    with pytest.raises(JournalError, match=r"a.json is not the outcome of a trial"):
        folder.get("a")


def test_a_folder_in_the_place_of_an_outcome_is_named(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(JournalError, match=r"a.json is not the outcome of a trial"):
        OutcomeFolder(tmp_path).get("a")


def test_a_key_knows_rows_and_base_whatever_their_paths_are(monkeypatch):
    trial, keys = Trial(Arm("it", LowRank(2), (0.1,)), 0.1, 1), []
    for content in (("base", "rows"), ("base", "other rows"), ("other base", "rows"), ("base", "rows")):
        monkeypatch.setattr(Setting, "content", content)
        keys.append(trial_key(Setting(TINY, (), 1), trial))
    assert len({*keys}) == 3
    assert keys[0] == keys[3]


def test_the_content_of_a_setting_is_that_of_its_rows_and_not_of_its_path(tmp_path):
    found = []
    for number, words in enumerate((("a", "b"), ("a", "c"), ("a", "b"))):
        file = tmp_path / f"{number}.jsonl"
        rows = [{"text": f"{words[n % 2]} {n}", "label": f"{n % 2}"} for n in range(60)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = tmp_path / f"{number}.toml"
        recipe.write_text(TINY.read_text().replace('corpus = "toy"', f'path = "{file.name}"'))
        words_of = "data.test_rows=8", "clients.min_rows=2", "clients.partition=iid"
        found.append(Setting(recipe, words_of, 1).content)
    assert found[0] == found[2] != found[1]
    assert found[0][0] == found[1][0]  # one base


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
