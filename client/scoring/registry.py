"""The metrics by name: what each one scores, and what it needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Literal

from client.scoring.nist import nist
from client.scoring.text_metrics import bleu, meteor, rouge, without_wordnet
from client.scoring.value_metrics import matthews, pearson, spearman
from common.errors import ConfigError, look_up
from common.settings.tasks import TASKS, RowSettings

Scores = Mapping[str, float | None]
Kind = Literal["texts", "labels", "numbers"]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Args:
        of: what it scores: texts that a model writes, labels or numbers that it predicts.
        measure: from a `Sequence[Written]`, or from what was predicted and what is true, to a score or several by name.
        packages: modules that it imports, each with the package that has it.
        obstacle: returns what else it lacks on this machine, if anything.
    """

    of: Kind
    measure: Callable[..., float | Scores | None]
    packages: Mapping[str, str]
    obstacle: Callable[[], str | None] = lambda: None

    def scores(self, name: str, *measured: Sequence[Any]) -> Scores:
        """Return the scores by name: that of the metric, if it has only one."""
        found = self.measure(*measured)
        return found if isinstance(found, Mapping) else {name: found}


_SACREBLEU, _NLTK = {"sacrebleu": "sacrebleu"}, {"nltk": "nltk"}
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "bleu": Metric("texts", bleu, _SACREBLEU),
        "nist": Metric("texts", nist, _SACREBLEU),
        "rouge": Metric("texts", rouge, {"rouge_score": "rouge-score"}),
        "meteor": Metric("texts", meteor, _SACREBLEU | _NLTK, without_wordnet),
        "matthews": Metric("labels", matthews, {"sklearn": "scikit-learn"}),
        "pearson": Metric("numbers", pearson, {}),
        "spearman": Metric("numbers", spearman, {}),
    }
)


def find_metrics(names: str) -> Mapping[str, Metric]:
    """Return the metrics of a list such as `bleu,rouge`.

    Raises:
        ConfigError: one is unknown, or its package is not installed.
    """
    asked = [name.strip() for name in names.split(",")]
    found = {name: look_up(METRICS, "--metrics", name) for name in asked}
    for name, metric in found.items():
        if absent := [package for module, package in metric.packages.items() if find_spec(module) is None]:
            raise ConfigError(
                f"--metrics {name} needs the package {' and '.join(absent)}; run: pip install 'fedlora[metrics]'"
            )
    return found


def scored_by(data: RowSettings) -> Kind | None:
    """Return what metrics score of a run's rows; None if none of them fits."""
    if data.has_classes:
        return "labels"
    if data.has_numbers:
        return "numbers"
    return "texts" if TASKS[data.task].generates and "completion" in TASKS[data.task].columns else None


def check_fit(metrics: Mapping[str, Metric], data: RowSettings) -> None:
    """Check that each of these metrics can score rows of these settings.

    Raises:
        ConfigError: one cannot.
    """
    kind, what = scored_by(data), data.task
    if TASKS[what].labels and not data.has_classes:
        what = f"{what} of problem_type {data.problem_type}"
    fitting = ", ".join(each for each, metric in METRICS.items() if metric.of == kind)
    for each, metric in metrics.items():
        if metric.of != kind:
            remedy = f"use {fitting}" if fitting else "leave out --metrics"
            raise ConfigError(f"--metrics {each} scores {metric.of}, and the run's task is {what}; {remedy}")
