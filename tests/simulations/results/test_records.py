from dataclasses import replace

import pytest

from common.errors import JournalError
from simulations.results.compare import choose_rates, compare
from simulations.results.records import Record, Records
from simulations.results.table import lines_of, page
from simulations.results.tasks import TASKS, Method, Task, first_trials

POOLED, OTHER = Method("pooled", (), (1,), (0.1, 0.2)), Method("increments", (), (8,), (0.1, 0.2))
TASK = Task("Title", "tiny.toml", (), (POOLED, OTHER))
ONE = replace(TASK, methods=(POOLED,))


def record(trial, valid="01", right="01"):
    return Record(*trial.key, 96, right, 0.5, valid, 0.5, 0, 0, 0, 0.0)


def test_a_record_is_read_back(tmp_path):
    trial = first_trials(ONE)[0]
    Records(tmp_path / "a").add(record(trial))
    assert Records(tmp_path / "a")[trial.key] == record(trial)


def test_a_record_that_was_cut_off_is_written_again(tmp_path):
    first, second = first_trials(ONE)
    records = Records(tmp_path / "a")
    records.add(record(first))
    records.add(record(second))
    (tmp_path / "a").write_text((tmp_path / "a").read_text()[:-5])
    again = Records(tmp_path / "a")
    assert first.key in again
    assert second.key not in again
    again.add(record(second))
    assert second.key in Records(tmp_path / "a")


def test_a_line_that_is_no_record_is_named(tmp_path):
    (tmp_path / "a").write_text("{}\n")
    with pytest.raises(JournalError, match=r"a, line 1 is not a record .*; remove the line"):
        Records(tmp_path / "a")


def test_the_rate_with_most_right_validation_rows_is_chosen(tmp_path):
    records, trials = Records(tmp_path / "a"), first_trials(ONE)
    for trial, valid in zip(trials, ("01", "11"), strict=True):
        records.add(record(trial, valid, right="00"))
    assert [trial.rate for trial in choose_rates(trials, records)] == [0.2]


def test_finished_trials_are_not_run_again(tmp_path):
    records, told = Records(tmp_path / "a"), []
    for trial in first_trials(TASK):
        records.add(record(trial))
    compare(TASK, records, seeds=1, workers=1, tell=told.append)
    assert told == []


def test_the_table_has_a_row_for_each_way(tmp_path):
    records, trials = Records(tmp_path / "a"), first_trials(TASK)
    for trial in trials:
        records.add(record(trial, right="11" if trial.method is POOLED else "01"))
    text = page(TASK, lines_of(TASK, choose_rates(trials, records), records), records, "command", "a.svg")
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][2:] == [
        "| pooled",
        "| increments",
    ]


@pytest.mark.parametrize("name", TASKS)
def test_every_method_of_every_task_is_a_recipe_of_equal_compute(name):
    for trial in first_trials(TASKS[name]):
        recipe = trial.recipe
        phases = 2 if recipe.server.algorithm == "fedlin" else 1
        assert recipe.train.rounds * recipe.train.steps * phases == TASKS[name].batches


def test_a_record_of_other_settings_is_not_taken(tmp_path):
    records, changed = Records(tmp_path / "a"), replace(ONE, settings=("train.batch=8",))
    for trial in first_trials(ONE):
        records.add(record(trial))
    assert [trial.key in records for trial in first_trials(ONE)] == [True, True]
    assert [trial.key in records for trial in first_trials(changed)] == [False, False]


@pytest.mark.slow
def test_a_comparison_runs_each_trial_once_and_the_other_seeds_at_the_chosen_rates(tmp_path):
    brief = replace(TASK, settings=("train.batch=4",), batches=8, test_rows=20, valid_rows=10)
    records, told = Records(tmp_path / "a"), []
    compare(brief, records, seeds=2, workers=1, tell=told.append)
    assert len(told) == 2 * 2 + 2
    chosen = choose_rates(first_trials(brief), records)
    assert all(replace(trial, seed=2).key in records for trial in chosen)
    assert {len(each.right) for each in records} == {20}
    assert {len(each.valid_right) for each in records} == {10}
    assert [line.records[0].exchanges for line in lines_of(brief, chosen, records)] == [8, 1]
