import sys

import pytest

from client.scoring.registry import METRICS, check_fit, find_metrics, scored_by
from common.errors import ConfigError
from common.settings.tasks import MULTI, REGRESSION, TASKS, RowSettings


def test_metrics_are_found_by_name_in_the_order_asked():
    assert [*find_metrics("rouge, bleu,rouge")] == ["rouge", "bleu"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("blue", "--metrics = 'blue' is unknown; did you mean 'bleu'?"),
        ("", "--metrics = '' is unknown; known: bleu, matthews, meteor, nist, pearson, rouge, spearman"),
        ("bleu,", "--metrics = '' is unknown"),
    ],
)
def test_an_unknown_metric_is_named(names, reason):
    with pytest.raises(ConfigError) as caught:
        find_metrics(names)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [(name, *pair) for name, metric in METRICS.items() for pair in metric.packages.items()],
)
def test_a_missing_package_is_named_with_the_remedy(monkeypatch, name, module, package):
    find_metrics(name)  # control: it is there
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as caught:
        find_metrics(name)
    assert str(caught.value) == f"--metrics {name} needs the package {package}; run: pip install 'fedlora[metrics]'"


def test_each_task_says_what_metrics_score_of_it():
    assert {name: scored_by(RowSettings(task=name)) for name in TASKS} == {
        "classification": "labels",
        "causal-lm": "texts",
        "preference": None,
        "seq2seq": "texts",
    }
    assert scored_by(RowSettings(problem_type=REGRESSION)) == "numbers"
    assert scored_by(RowSettings(problem_type=MULTI)) is None


@pytest.mark.parametrize(
    ("metric", "task", "reason"),
    [
        ("bleu", "classification", "--metrics bleu scores texts, and the run's task is classification; use matthews"),
        ("matthews", "causal-lm", "--metrics matthews scores labels, and the run's task is causal-lm; use bleu, nist,"),
        ("pearson", "classification", "--metrics pearson scores numbers, "),
        ("rouge", "preference", "--metrics rouge scores texts, and the run's task is preference; leave out --metrics"),
    ],
)
def test_a_metric_that_does_not_fit_the_task_is_refused(metric, task, reason):
    with pytest.raises(ConfigError) as caught:
        check_fit(find_metrics(metric), RowSettings(task=task))
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(("metric", "task"), [("bleu", "causal-lm"), ("matthews", "classification")])
def test_a_metric_that_fits_is_not_refused(metric, task):
    check_fit(find_metrics(metric), RowSettings(task=task))


def test_numbers_have_their_own_metrics_and_sets_of_labels_none():
    check_fit(find_metrics("pearson,spearman"), RowSettings(problem_type=REGRESSION))
    with pytest.raises(ConfigError, match="task is classification of problem_type regression; use pearson, spearman"):
        check_fit(find_metrics("matthews"), RowSettings(problem_type=REGRESSION))
    with pytest.raises(ConfigError, match="problem_type multi_label_classification; leave out --metrics"):
        check_fit(find_metrics("matthews"), RowSettings(problem_type=MULTI))
