"""The adapter that a run begins with: read from a PEFT folder, known by its content, and fitted to the run's model."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors.numpy import save

from common.adapters.adapter import Adapter, Array, Factors
from common.errors import ConfigError, ModelError
from common.huggingface.fingerprint_parts import BASE
from common.huggingface.model_description import ModelDescription
from common.huggingface.new_head import HeadModule, initial_weight
from common.huggingface.peft_folder import PeftAdapter, read_peft_folder
from common.settings.recipe import StartSettings

Start = TypeVar("Start", bound=StartSettings)


def pin_adapter(base: Start, begun: bool) -> Start:
    """Return [base] with the hash of its adapter's content, by which the run knows it from now on.

    Args:
        base: of a recipe or a server's file, with a resolved path.
        begun: the run has begun, so that `base` has the hash that it began with, and the folder need not be there.

    Raises:
        ConfigError: the adapter is not that of the hash, or the run began without one.
        ModelError: the folder cannot be read.
    """
    if base.adapter is None:
        if base.adapter_hash and not begun:
            raise ConfigError("[base] adapter_hash is set, but adapter is not; name the adapter's folder, or remove it")
        return base
    if begun and base.adapter_hash is None:
        raise ConfigError(
            f"[base] adapter = {base.adapter!r}, but the run began without one; remove the key, or start another run"
        )
    if begun and not Path(base.adapter).exists():
        return base
    return replace(base, adapter_hash=content_hash(load_start(base)))


def load_start(base: StartSettings) -> PeftAdapter:
    """Return the content of [base] adapter, which is set.

    Raises:
        ConfigError: it is not that of [base] adapter_hash.
        ModelError: the folder cannot be read.
    """
    stored = read_peft_folder(Path(base.adapter or ""))
    if base.adapter_hash not in (None, found := content_hash(stored)):
        raise ConfigError(
            f"[base] adapter = {base.adapter!r} has content of SHA-256 {found:.12}, but adapter_hash, which a run "
            f"keeps, is {base.adapter_hash:.12}; give the adapter that the run began with, or start another run"
        )
    return stored


def content_hash(stored: PeftAdapter) -> str:
    """Return the SHA-256 of an adapter's factors with their scale, and of its finished modules, in float32."""
    saved = {f"saved {name}": tensor.astype("f4") for name, tensor in stored.saved.items()}
    return hashlib.sha256(save({**stored.adapter.arrays(), **saved})).hexdigest()


def fit_start(stored: PeftAdapter, folder: str, model: ModelDescription) -> Adapter:
    """Return a stored adapter as factors of a run's targets; those that it does not change are absent.

    A finished head is the identity times its difference from the head that all nodes begin with.

    Args:
        stored: the adapter.
        folder: that it is from, for errors.
        model: of the run.

    Raises:
        ModelError: it is of another base, or something in it is no target of this shape; names the folder and that.
    """
    head = {module.name: module for module in model.head}
    if fault := next(_faults(stored, model, head), None):
        raise ModelError(f"[base] adapter = {folder!r} does not fit the run: {fault}")
    continued = [module for name, module in head.items() if f"{name}.weight" in stored.saved]
    return Adapter({**stored.adapter, **{module.name: _difference(module, stored.saved) for module in continued}})


def _faults(stored: PeftAdapter, model: ModelDescription, head: Mapping[str, HeadModule]) -> Iterator[str]:
    stated, own = stored.base_hash, model.parts.get(BASE)
    if stated and own and stated != own:
        yield f"it states the base model {stated:.12} (SHA-256), the run's is {own:.12}; give an adapter of this base"
    yield from _target_faults(stored, model, head)
    yield from _head_faults(stored, model, head)


def _target_faults(stored: PeftAdapter, model: ModelDescription, head: Mapping[str, HeadModule]) -> Iterator[str]:
    for name, factors in stored.adapter.items():
        if name not in model.shapes or name in head:
            yield f"{name} is no LoRA target of the run; set [lora] targets so that it is, or give another adapter"
        elif factors.shape != model.shapes[name]:
            yield f"{name} is {factors.shape}, and the base's {model.shapes[name]}; give an adapter of this base"
        elif (name in stored.embeddings) != (name in model.embeddings):
            yield f"{name} is an embedding in one of the two only; give an adapter of this base"
        elif not (np.isfinite(factors.a).all() and np.isfinite(factors.b).all()):
            yield f"{name} has numbers that are not finite; give another adapter"


def _head_faults(stored: PeftAdapter, model: ModelDescription, head: Mapping[str, HeadModule]) -> Iterator[str]:
    for key, tensor in stored.saved.items():
        name, _, kind = key.rpartition(".")
        if name in stored.adapter:
            continue  # PEFT stores an embedding of the base beside its factors.
        if name not in head or kind not in ("weight", "bias"):
            yield f"{key} is saved whole, and the run trains no new head of this name; train or export it without that"
        elif kind == "weight" and tensor.shape != model.shapes[name]:
            yield f"the head {key} is {tensor.shape}, and the run's {model.shapes[name]}; give one of these classes"
        elif not np.isfinite(tensor.astype("f4")).all():
            yield f"the head {key} has numbers that are not finite; give another adapter"
        elif kind == "bias" and tensor.any():
            yield f"the head has a {key} that is not zero, and fedlora trains no bias; remove the head, for a new one"


def _difference(module: HeadModule, saved: Mapping[str, Array]) -> Factors:
    weight = saved[f"{module.name}.weight"].astype("f4")
    d, k = weight.shape
    difference = weight - initial_weight(module, (d, k))
    return Factors(difference, np.eye(d, dtype="f4")) if d <= k else Factors(np.eye(k, dtype="f4"), difference)
