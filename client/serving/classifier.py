"""Classification of texts, or numbers for them: all that wait, in one pass, each under its own adapter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.data.batches import Batch, pad
from client.data.tokens import padding_id
from client.model.base_model import BaseModel
from client.model.forward import forward
from client.serving.cached_rows import LaneModel
from client.serving.jobs import Classified, Failed, Job
from client.serving.limits import Limits
from common.settings.tasks import MULTI, REGRESSION, SINGLE

_ANSWERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    SINGLE: lambda logits: logits.softmax(-1),
    MULTI: torch.sigmoid,
    REGRESSION: lambda outputs: outputs,
}


class Classifier:
    """Texts to classify; for one thread. No text stays in it."""

    def __init__(self, base: BaseModel, limits: Limits) -> None:
        self._model, self._limits = LaneModel(base), limits
        self.jobs: list[Job] = []

    def has_room(self, jobs: Sequence[Job]) -> bool:
        """Return whether these jobs fit into one pass."""
        return len(jobs) <= self._limits.rows

    @torch.no_grad()
    def admit(self, jobs: Sequence[Job]) -> None:
        """Classify the texts of these jobs."""
        jobs = sorted(jobs, key=lambda job: id(job.lane))
        ids, base = [np.array(job.ids, np.int32) for job in jobs], self._model.base
        mask = pad([np.ones_like(row) for row in ids], 0)
        batch = Batch(pad(ids, padding_id(base.tokenizer)), mask, torch.zeros(len(ids)))
        self._model.set_lanes([job.lane for job in jobs])
        found = answers(base.model, forward(base, batch.to(base.device)))
        for job, row in zip(jobs, found, strict=True):
            finite = bool(row.isfinite().all())
            failed = Failed("the model's logits are not finite under this adapter")
            job.deliver(Classified(tuple(row.tolist())) if finite else failed)

    def step(self) -> None:
        """Do nothing: what was admitted is done."""

    def clear(self) -> None:
        """Do nothing: nothing is kept."""


def answers(model: Any, logits: Tensor) -> Tensor:
    """Return float64 (n, C) on the CPU, by the problem type: of each class, of each label by itself, or numbers."""
    return _ANSWERS[model.config.problem_type](logits.cpu().double())
