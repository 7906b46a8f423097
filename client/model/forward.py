"""The forward pass of a base model."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from client.data.batches import Batch
from client.model.base_model import BaseModel
from common.errors import ModelError
from common.settings.tasks import TASKS


def forward(base: BaseModel, batch: Batch, places: Tensor | None = None) -> Tensor:
    """Return logits (r, C) for classification, (r, t, V) for a language model; autocast if the base is 16-bit.

    Those of an encoder with a decoder are at the positions of the targets (r, t), which its decoder reads shifted.

    Args:
        base: the model.
        batch: r rows, however they are grouped into examples.
        places: (p,), positions of a causal language model, which returns only the logits (r, p, V) there.

    Raises:
        ModelError: the model cannot compute in its 16 bits.
    """
    dtype, settings = base.model.dtype, dict[str, Any]()
    if TASKS[base.task].generates:
        settings["use_cache"] = False
    if TASKS[base.task].seq2seq:
        settings |= decoder_inputs(base.model, batch.targets)
    few = places is not None and "logits_to_keep" in inspect.signature(base.model.forward).parameters
    if few:
        settings["logits_to_keep"] = places  # V is large: most of the memory of a step is logits
    ids, mask = batch.input_ids.flatten(0, -2), batch.attention_mask.flatten(0, -2)
    with _naming_dtype(base), torch.autocast(base.device.type, dtype, enabled=dtype != torch.float32):
        logits: Tensor = base.model(input_ids=ids, attention_mask=mask, **settings).logits
    return logits if few or places is None else logits[:, places]


def decoder_inputs(model: Any, targets: Tensor) -> dict[str, Tensor]:
    """Return what makes a decoder read targets (n, t) shifted by one, as Transformers does it for its own loss."""
    if not hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return {"labels": targets}
    # A copy: FSMT writes into what it is given.
    return {"decoder_input_ids": model.prepare_decoder_input_ids_from_labels(targets.clone())}


_OF_DTYPE = ("scalar type", "dtype", "without overflow")
"""Words in what PyTorch says of models whose code mixes a 16-bit type with float32, or with its limits."""


@contextmanager
def _naming_dtype(base: BaseModel) -> Iterator[None]:
    """Turn an error that comes from a 16-bit type into one that says how to hold the base."""
    try:
        yield
    except RuntimeError as error:
        # Not the model's own property, which is the type of its first parameter: XLNet's is float32 in any case.
        short = next((each.dtype for each in base.model.parameters() if each.dtype.itemsize == 2), None)
        if short is None or not any(words in str(error) for words in _OF_DTYPE):
            raise
        kind, reason = str(short).removeprefix("torch."), str(error).splitlines()[0]
        raise ModelError(
            f"{base.folder}: the {base.model.config.model_type} model of Transformers cannot compute in {kind} on "
            f'{base.device.type} ({reason}); set dtype = "float32" (in a recipe: [base] dtype)'
        ) from None
