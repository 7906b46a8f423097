"""Bases in 4 and 8 bits: what is in memory, the same weights as plain numbers, and loads by Transformers alone."""

import atexit
import copy
import hashlib
import shutil
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers import BitsAndBytesConfig

from client.model import precision
from client.model.lora import frozen_lane
from client.model.quantised import as_numbers, held_tensors, quantised_modules
from simulations.architectures.trial import write_base
from tests.helpers.common.models import AUTO_MODEL, TOKENS

KINDS = ["nf4", "int8"]


def weights_hash(model):
    """Return the hash of everything of which quantised weights are made."""
    digest = hashlib.sha256()
    for name, module in quantised_modules(model).items():
        digest.update(name.encode())
        for tensor in held_tensors(module):
            digest.update(tensor.reshape(-1).view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()


def without_units(monkeypatch):
    """Let the CPU have no units for bfloat16, so that layers compute in float32."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    monkeypatch.setattr(precision, "_CPU_FEATURES", precision.Path("/nowhere"))


def dequantised(base):
    """Return a base that computes in float32 with the same weights in float32."""
    model = copy.deepcopy(base.model)
    for name, layer in quantised_modules(base.model).items():
        model.set_submodule(name, as_numbers(layer))
    return replace(base, model=model.requires_grad_(False))


def transformers_config(kind, whole):
    """Return the settings by which a user of Transformers loads this kind, in float32 but for these modules."""
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    nested = {"bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.float32}
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, llm_int8_skip_modules=whole, **nested)


def transformers_load(folder, task, kind, whole, **classes):
    """Load a base with Transformers alone, and keep 4-bit weights from being packed in a first pass."""
    config = transformers_config(kind, whole)
    auto = AUTO_MODEL[task]
    model = auto.from_pretrained(folder, quantization_config=config, dtype=torch.float32, device_map="cpu", **classes)
    for layer in quantised_modules(model).values():
        layer.support_avx512bf16_for_cpu = False
    return model


@torch.no_grad()
def logits_under(lora, *adapters):
    """Return logits on TOKENS under these adapters, zero at padding, with the layers in the mode that a run has."""
    lora.lanes = [frozen_lane(each) for each in adapters]
    try:
        out = lora.model(**TOKENS).logits
    finally:
        lora.lanes = ()
    return out if out.ndim == 2 else out * TOKENS["attention_mask"][..., None]


SIZES = {
    "llama": {"hidden_size": 64, "intermediate_size": 128},
    "gpt2": {"n_embd": 64},
    "bert": {"hidden_size": 64, "intermediate_size": 128},
}
TASKS = {"llama": "causal-lm", "gpt2": "causal-lm", "bert": "classification"}


@cache
def wide_base(kind):
    """Return the folder of a tiny base whose layers have a multiple of 64 inputs, so that a CPU holds all in 4 bits."""
    folder = Path(mkdtemp(prefix="fedlora-wide-")) / kind
    atexit.register(shutil.rmtree, folder.parent)
    return write_base(kind, TASKS[kind], folder, **SIZES[kind])


def packs_weights():
    """Return whether this CPU has the units for which bitsandbytes packs 4-bit weights anew."""
    return bool(import_module("bitsandbytes.functional").has_avx512bf16())
