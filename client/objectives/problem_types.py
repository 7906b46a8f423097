"""Classification's other problem types: any number of labels a row, or numbers. Losses are those of Transformers."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from client.data.batches import Batch
from client.data.targets.label_sets import label_texts, read_label_set
from client.data.targets.numbers import read_numbers
from client.objectives.base import Measured, Model
from client.objectives.classification import Classification
from client.objectives.scores import R2, MicroF1
from common.settings.tasks import MULTI, REGRESSION


class MultiLabel(Classification):
    """Binary cross-entropy of each label, its mean over the labels."""

    metric = MicroF1()

    def read_target(self, fields: Mapping[str, Any]) -> Any:
        """Return 1 for each label of the row and 0 for the others (C,)."""
        return read_label_set(fields, self.data.label, self.data.labels)

    def label_texts(self, fields: Mapping[str, Any]) -> Iterable[str]:
        """Return the labels of a row that are texts."""
        return label_texts(fields.get(self.data.label))

    def targets(self, targets: list[Any]) -> Tensor:
        """Return float32 (n, C)."""
        return stacked(targets)

    def measure(self, model: Model, batch: Batch) -> Measured:
        """Return the loss, and the logits (n, C)."""
        logits = model(batch).float()
        loss = F.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none")
        return Measured(loss.mean(-1).sum(), logits.detach())


class Regression(Classification):
    """Squared error of each number, its mean over the model's outputs."""

    metric = R2()

    def read_target(self, fields: Mapping[str, Any]) -> Any:
        """Return the numbers of the row (C,)."""
        return read_numbers(fields, self.data.label, self.data.labels)

    def label_texts(self, fields: Mapping[str, Any]) -> Iterable[str]:
        """Return nothing: a row has no labels."""
        return ()

    def targets(self, targets: list[Any]) -> Tensor:
        """Return float32 (n, C)."""
        return stacked(targets)

    def measure(self, model: Model, batch: Batch) -> Measured:
        """Return the loss, and the outputs (n, C)."""
        found = model(batch).float()
        loss = F.mse_loss(found, batch.targets, reduction="none")
        return Measured(loss.mean(-1).sum(), found.detach())


def stacked(targets: list[Any]) -> Tensor:
    """Return float32 (n, C) of n rows of numbers."""
    return torch.stack([torch.tensor(each, dtype=torch.float32) for each in targets])


PROBLEMS: Mapping[str, type[Classification]] = {MULTI: MultiLabel, REGRESSION: Regression}
"""Objectives of classification for what a row has, other than one class."""
