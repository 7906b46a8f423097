"""Bases in 4 and 8 bits: what is in memory, the same weights as plain numbers, and loads by Transformers alone."""

import copy
import hashlib
from dataclasses import replace

import torch
from transformers import BitsAndBytesConfig

from client.model import precision
from client.model.quantised import as_numbers, held_tensors, quantised_modules
from tests.helpers.common.models import AUTO_MODEL

KINDS = ["nf4", "int8"]


def weights_hash(model):
    """Return the hash of everything of which quantised weights are made."""
    digest = hashlib.sha256()
    for name, module in quantised_modules(model).items():
        digest.update(name.encode())
        for tensor in held_tensors(module):
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def without_units(monkeypatch):
    """Let the CPU have no units for bfloat16, so that layers compute in float32."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    monkeypatch.setattr(precision, "_CPU_FEATURES", precision.Path("/nowhere"))


def dequantised(base):
    """Return the base with the same weights in float32."""
    model = copy.deepcopy(base.model)
    for name, layer in quantised_modules(base.model).items():
        model.set_submodule(name, as_numbers(layer))
    return replace(base, model=model.float().requires_grad_(False))


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
