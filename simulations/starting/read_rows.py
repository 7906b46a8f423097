"""The rows and the base that a first file is for: what to set, found by reading them as a run would."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.checking.checked import check_rows
from client.columns.suggestion import Suggestion, for_base, suggest
from client.columns.survey import Survey
from common.errors import ConfigError, DataError, ModelError, nearest
from common.huggingface.base_folder import resolve_base
from common.huggingface.own_head import own_head, unnamed
from common.settings.node import Node, NodeData
from common.settings.recipe import Base
from common.settings.tasks import REGRESSION, SINGLE
from common.settings.types import Head
from simulations.recipe import base_path


@dataclass(frozen=True)
class FoundRows:
    """What was found.

    Args:
        suggestion: task and columns.
        labels: in the order of the base's own head if that has them.
        head: what becomes of such a head.
        rows: number of rows that can be used.
        max_length: that cuts hardly anything, or the default if that does.
        skipped: rows that cannot be used.
    """

    suggestion: Suggestion
    labels: tuple[str, ...]
    head: Head
    rows: int
    max_length: int
    skipped: int

    @property
    def has_labels(self) -> bool:
        """Rows have labels; numbers have none, unless there are several."""
        return bool(self.labels) and (self.suggestion.problem_type != REGRESSION or len(self.labels) > 1)

    @property
    def has_classes(self) -> bool:
        """Each row has one class."""
        return bool(self.labels) and self.suggestion.problem_type == SINGLE

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of rows to set."""
        kept = {"max_length": self.max_length, "skip_bad_rows": True if self.skipped else None}
        return {**self.suggestion.settings, **{key: value for key, value in kept.items() if value}}


def recognised(file: Path, found: Survey, label: str | None) -> Suggestion:
    """Return what the columns of a file suggest, or what they do with this label.

    Raises:
        ConfigError: there is no such column, or it has no labels.
        DataError: there is no text to learn from.
    """
    names = [each.name for each in found.columns]
    if label is not None and label not in names:
        raise ConfigError(f"--label {label}: {file} has no such column{nearest(label, names)}")
    suggestion = suggest(found, label)
    if suggestion is None and label is not None:
        raise ConfigError(f"--label {label}: the column has no labels of texts; name another one, or leave --label out")
    if suggestion is None:
        raise DataError(f"{file} has the columns {', '.join(map(repr, names))}, and none has texts to learn from")
    return suggestion


def read_for(file: Path, suggestion: Suggestion, base: str, encoding: str) -> FoundRows:
    """Read the rows of a file for this base model.

    Raises:
        DataError, ModelError: a run could not use them.
    """
    path = base_path(base)
    suggestion = for_base(suggestion, path)
    head = _head(path, suggestion)
    data = NodeData(
        path=str(file), labels=suggestion.labels, encoding=encoding, skip_bad_rows=True, **suggestion.settings
    )
    checked = check_rows(Node(name="node", rank=1, base=Base(path, "auto", head=head), data=data))
    own = checked.node.data
    return FoundRows(suggestion, own.labels, head, checked.count, own.max_length, len(checked.found.skipped))


def _head(path: str, suggestion: Suggestion) -> Head:
    """Return "new" where the base's own head has other classes than the rows, else "keep"."""
    try:
        own = own_head(resolve_base(path)) if suggestion.labels else None
    except ModelError:
        return "keep"  # Whoever loads the base says what is wrong.
    if own is None:
        return "keep"
    named = own.named and not unnamed(suggestion.labels)
    other = len(own.classes) != len(suggestion.labels) or (named and own.others(own.order(suggestion.labels)))
    return "new" if other else "keep"
