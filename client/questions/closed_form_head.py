"""What a node gives for a head in closed form: sums of its features by class, and losses of heads made of them.

Features are what the checkpoint's own class feeds its last projection, under the global update.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from client.data.batches import Batch
from client.model.base_model import BaseModel
from client.model.lora import Lane, Lora, branches
from client.objectives.examples import Examples, eval_batches, subset
from client.reports import report_step
from client.training.adapted_model import AdaptedModel
from common.adapters.adapter import Adapter, Array, Factors
from common.heads.class_sums import ClassSums, sum_rows
from common.heads.closed_form import PENALTIES, TEMPERATURES, Kind, as_factors, head_weight

Labels = NDArray[np.integer]
BATCH = 16
"""Rows of a forward pass for losses. Sums read each row alone: its features then are the same whoever holds it beside
whatever rows, and so is the head."""
_CHUNK = 256
"""Rows whose features are in memory at once."""


def class_sums(
    base: BaseModel, lora: Lora, adapter: Adapter, examples: Examples, classes: int, gram: bool, floor: int = 0
) -> tuple[ClassSums, int]:
    """Return the sums over all rows but those of classes with fewer than `floor`, and the number of these."""
    labels = np.array([row.targets for row in examples.rows])  # type: ignore[attr-defined]
    kept = np.flatnonzero(np.bincount(labels, minlength=classes)[labels] >= floor)
    width = adapter[base.head[-1].name].shape[1]
    total = sum_rows(np.zeros((0, width)), labels[:0], classes, gram)
    each = _features(base, lora, adapter, subset(examples, kept.tolist()), batch=1) if len(kept) else iter(())
    while chunk := list(islice(each, _CHUNK)):
        features, found = (np.concatenate([pair[side] for pair in chunk]) for side in (0, 1))
        total += sum_rows(features, found, classes, gram)
    return total, len(labels) - len(kept)


def head_losses(
    base: BaseModel,
    lora: Lora,
    adapter: Adapter,
    examples: Examples,
    heads: Sequence[Factors],
    temperatures: Sequence[float],
) -> list[float]:
    """Return the cross-entropy in nats, summed over rows, of each head at each temperature."""
    weights = [torch.from_numpy(head.b.astype("f4") @ head.a.astype("f4")) for head in heads]
    sums = np.zeros((len(heads), len(temperatures)))
    for features, labels in _features(base, lora, adapter, examples, BATCH):
        for place, weight in enumerate(weights):
            logits = torch.from_numpy(features) @ weight.T
            for column, each in enumerate(temperatures):
                sums[place, column] += F.cross_entropy(logits / each, torch.from_numpy(labels), reduction="sum").item()
    return [float(each) for each in sums.ravel()]


def own_head(
    base: BaseModel, lora: Lora, adapter: Adapter, train: Examples, held: Examples, classes: int, gram: bool
) -> Factors:
    """Return the head that the rows to train on give under an adapter, chosen as a run does: by held-out rows."""
    sums, _ = class_sums(base, lora, adapter, train, classes, gram)
    kind: Kind = "lda" if gram else "means"
    weights = [head_weight(sums, kind, penalty) for penalty in PENALTIES[kind]]
    losses = head_losses(base, lora, adapter, held, list(map(as_factors, weights)), TEMPERATURES)
    place, column = divmod(int(np.nanargmin(losses)), len(TEMPERATURES))
    return as_factors(weights[place], TEMPERATURES[column]).astype("f4")


@torch.no_grad()
def _features(
    base: BaseModel, lora: Lora, adapter: Adapter, examples: Examples, batch: int
) -> Iterator[tuple[Array, Labels]]:
    """Yield float32 features (n, H) and labels (n,) of batches of rows."""
    lora.lanes = [Lane(trained=branches(adapter, base.device))]
    caught: list[Tensor] = []
    last = base.model.get_submodule(base.head[-1].name)
    hook = last.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0].detach()))
    try:
        model = AdaptedModel(base, lora)
        for done, each in enumerate(eval_batches(examples, batch, pin=base.device.type == "cuda")):
            report_step(done + 1)
            model(each.to(base.device))
            yield (
                _pooled(caught.pop(), each, base.model.config.pad_token_id).float().cpu().numpy(),
                each.targets.numpy(),
            )
    finally:
        hook.remove()
        lora.lanes = ()


def _pooled(features: Tensor, batch: Batch, pad: int | None) -> Tensor:
    """Return (n, H); a decoder's class takes the logits of each row's last token that is not padding (n, t, H)."""
    if features.ndim == 2:
        return features
    ids = batch.input_ids.to(features.device)
    last = ((ids != pad) * torch.arange(ids.shape[-1], device=ids.device)).argmax(-1)
    return features[torch.arange(len(features), device=features.device), last]
