"""What a classifier answers, by its problem type: probabilities of classes, of each label by itself, or numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from common.settings.tasks import MULTI, REGRESSION, SINGLE

_ANSWERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    SINGLE: lambda logits: logits.softmax(-1),
    MULTI: torch.sigmoid,
    REGRESSION: lambda outputs: outputs,
}


def answers(model: Any, logits: Tensor) -> Tensor:
    """Return float64 (n, C) on the CPU: what the logits (n, C) of a model of Transformers say."""
    return _ANSWERS[model.config.problem_type](logits.cpu().double())
