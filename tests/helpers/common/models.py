"""Tiny real models, random adapters for them, and the logits of both."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from client.model.base_model import BaseModel, load_base
from client.model.lora import Lane, Lora, frozen_lane
from common.adapters.adapter import Adapter, Factors, Shapes
from simulations.tiny_base import tiny_base

LABELS = ("bad", "fair", "good")
AUTO_MODEL = {
    "classification": AutoModelForSequenceClassification,
    "causal-lm": AutoModelForCausalLM,
    "preference": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
}
TOKENS = {
    "input_ids": torch.arange(4, 24).reshape(4, 5),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
}


def load(kind: str, task: str = "classification", folder: object = None) -> BaseModel:
    """Load a tiny base with modules and tensors of its own, so that no test sees what another did to them."""
    labels = LABELS if task == "classification" else ()
    base = load_base(str(folder or tiny_base(kind)), task, labels, "float32", "cpu")  # type: ignore[arg-type]
    return replace(base, model=copy.deepcopy(base.model))


def random_factors(rng: np.random.Generator, shape: tuple[int, int], rank: int, scale: float = 0.3) -> Factors:
    """Gaussian factors in float32."""
    d, k = shape
    a, b = rng.standard_normal((rank, k)), rng.standard_normal((d, rank))
    return Factors((scale * a).astype("f4"), (scale * b).astype("f4"))


def random_adapter(shapes: Shapes, ranks: Iterable[int], seed: int = 0) -> Adapter:
    """Factors for every module; the ranks are dealt out in turn, each at most min(d, k)."""
    rng = np.random.default_rng(seed)
    return Adapter(
        {
            name: random_factors(rng, shape, min(rank, *shape))
            for (name, shape), rank in zip(shapes.items(), cycle(ranks), strict=False)
        }
    )


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    """Return a model's logits on TOKENS, zero at padding, whose positions mean nothing."""
    out: Tensor = model.eval()(**TOKENS).logits
    return out if out.ndim == 2 else out * TOKENS["attention_mask"][..., None]


def adapted_logits(lora: Lora, adapter: Adapter) -> Tensor:
    """Logits of the base plus this adapter."""
    return lane_logits(lora, [frozen_lane(adapter)])


def lane_logits(lora: Lora, lanes: Sequence[Lane]) -> Tensor:
    """Logits of one pass with these lanes."""
    lora.lanes = lanes
    try:
        return logits(lora.model)
    finally:
        lora.lanes = ()
