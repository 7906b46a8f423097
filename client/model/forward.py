"""The forward pass of a base model."""

from typing import Any

import torch
from torch import Tensor

from client.data.batches import Batch
from client.model.base_model import BaseModel


def forward(base: BaseModel, batch: Batch, **settings: Any) -> Tensor:
    """Return logits (n, C) for classification, (n, t, V) for a causal language model; autocast if the base is 16-bit.

    Args:
        settings: further arguments of the model's own `forward`.
    """
    dtype = base.model.dtype
    if base.task == "causal-lm":
        settings["use_cache"] = False
    with torch.autocast(base.device.type, dtype, enabled=dtype != torch.float32):
        logits: Tensor = base.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **settings).logits
    return logits
