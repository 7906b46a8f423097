"""The labels of a task, or the names of the model's outputs, that the values of a column make."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from client.data.labels import label_names
from client.data.targets.label_sets import label_set_names
from client.data.targets.numbers import count_outputs
from common.huggingface.own_head import output_names
from common.settings.tasks import MULTI, REGRESSION, SINGLE, Problem

Values = Iterable[Any]


def names_for(problem: Problem, values: Values) -> tuple[str, ...]:
    """Return the labels of rows with these values, in order; of numbers, a name for each output."""
    return _NAMES[problem](values)


_NAMES: Mapping[str, Callable[[Values], tuple[str, ...]]] = {
    SINGLE: label_names,
    MULTI: label_set_names,
    REGRESSION: lambda values: output_names(count_outputs(values)),
}
LEAST: Mapping[str, int] = {SINGLE: 2, MULTI: 1, REGRESSION: 1}
"""Fewest labels of a task."""
