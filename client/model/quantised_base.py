"""How a base in 4 or 8 bits is loaded: through Transformers and bitsandbytes, an optional extra."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from re import escape
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from client.model.adaptable import unfit_modules
from client.model.head import outside_the_body
from client.model.lora import adaptable_shapes
from client.model.precision import computes_in, find_dtype
from client.model.quantised import as_numbers, count_numbers, cuts_blocks, quantised_modules, settle
from client.model.quantised_library import LIBRARY, check_library
from common.errors import ModelError
from common.huggingface.base_folder import read_json, safetensors_files
from common.log_format import event
from common.settings.types import Dtype

log = logging.getLogger(__name__)

ASKED = ("nf4", "int8")
"""The values of `dtype` that quantise a base."""


@dataclass(frozen=True)
class Precision:
    """How a base is held.

    Args:
        numbers: type of what is not quantised, and of what layers compute with.
        kind: of the quantised layers, `nf4`, `fp4` or `int8`; None if none is.
        stored: the checkpoint is quantised.
    """

    numbers: torch.dtype
    kind: str | None = None
    stored: bool = False

    def arguments(self, like: Callable[[], nn.Module], device: str) -> dict[str, Any]:
        """Return further arguments of Transformers to load a model; `like` makes one of the same modules."""
        if self.kind is None:
            return {}
        placed: dict[str, Any] = {"device_map": {"": device}}
        return placed if self.stored else placed | {"quantization_config": self._config(self._whole(like(), device))}

    def _whole(self, model: nn.Module, device: str) -> list[str]:
        """Return expressions for the modules that stay in floating point."""
        cut = () if self.kind == "int8" else cut_modules(model, device)
        return [f"{escape(name)}$" for name in {*whole_modules(model), *cut}]

    def _config(self, whole: list[str]) -> BitsAndBytesConfig:
        if self.kind == "int8":
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)  # type: ignore[no-untyped-call]
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type=self.kind,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=self.numbers,
            llm_int8_skip_modules=whole,
        )


def find_precision(folder: Path, asked: Dtype, device: str) -> Precision:
    """Return how to hold a base; layers in 4 or 8 bits compute in bfloat16 if the device has units for it, or float32.

    Raises:
        ModelError: the folder contains no safetensors, its checkpoint is quantised in another way, or the library that
            this takes is not installed.
    """
    stored = _stored_kind(folder)
    kind = stored or (asked if asked in ASKED else None)
    if kind is None:
        return Precision(find_dtype(folder, asked, device))
    if asked in ASKED and asked != kind:
        raise ModelError(
            f'dtype = "{asked}" (in a recipe: [base] dtype): {folder} is stored in {kind}; set dtype = "auto", or give '
            "the checkpoint from before it was quantised"
        )
    check_library(
        f"{folder} is stored in {kind}, which" if stored else f'dtype = "{asked}" (in a recipe: [base] dtype)'
    )
    lowest = torch.bfloat16 if computes_in(torch.bfloat16, device) else torch.float32
    numbers = lowest if asked in ("auto", *ASKED) else find_dtype(folder, asked, device)
    return Precision(numbers, kind, stored is not None)


@lru_cache(maxsize=32)
def _stored_kind(folder: Path) -> str | None:
    """Return how a checkpoint is quantised."""
    safetensors_files(folder)
    config = read_json(folder / "config.json")
    parts = (config, config.get("text_config")) if isinstance(config, dict) else ()
    found = next((part["quantization_config"] for part in parts if part and part.get("quantization_config")), None)
    if not isinstance(found, Mapping):
        return None
    method = str(found.get("quant_method", LIBRARY if "load_in_8bit" in found else "an unnamed method"))
    if method != LIBRARY:
        raise ModelError(
            f"{folder / 'config.json'}: the checkpoint is quantised by {method!r} (quantization_config), and fedlora "
            f"trains on {LIBRARY}'s 4 and 8 bits only; give the checkpoint from before it was quantised, and "
            'dtype = "nf4" to hold it in 4 bits'
        )
    return "int8" if found.get("load_in_8bit") else str(found.get("bnb_4bit_quant_type", "fp4"))


def whole_modules(model: nn.Module) -> list[str]:
    """Return the modules that are not quantised anywhere: head, output projection, and what cannot be adapted."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    last = model.get_output_embeddings()  # type: ignore[operator]
    output = [name for name, module in model.named_modules() if module is last]
    return [*outside_the_body(model, linear), *output, *unfit_modules(model)]


def cut_modules(model: nn.Module, device: str) -> list[str]:
    """Return the modules that bitsandbytes would read wrongly in 4 bits on this device."""
    shapes = adaptable_shapes(model)
    linear = [name for name in shapes if not isinstance(model.get_submodule(name), nn.Embedding)]
    return [name for name in linear if cuts_blocks(shapes[name][1], device)]


def finish(folder: Path, model: nn.Module, precision: Precision, device: str, lacking: list[str]) -> None:
    """Make a quantised model ready: what its checkpoint lacks is not quantised, and no pass changes what is.

    Args:
        folder: for the errors.
        model: as loaded.
        precision: that it was loaded with.
        device: that it is on.
        lacking: keys that the checkpoint does not have.

    Raises:
        ModelError: nothing in the model is quantised.
    """
    cut = () if precision.kind == "int8" else cut_modules(model, device)
    for name, module in quantised_modules(model).items():
        if name in cut:
            model.set_submodule(name, as_numbers(module).to(precision.numbers))
        elif f"{name}.weight" in lacking:
            shape, biased = (module.in_features, module.out_features), module.bias is not None
            model.set_submodule(
                name, nn.Linear(*shape, bias=biased, dtype=precision.numbers, device=module.weight.device)
            )
    settle(model, precision.numbers)
    numbers, quantised = count_numbers(model)
    if not quantised:
        raise ModelError(
            f'{folder} has no linear layer that {LIBRARY} quantises; set dtype = "auto" (in a recipe: [base] dtype)'
        )
    if quantised < numbers / 2:
        what = "only %.0f%% of the numbers of %s are in %s: embeddings, output projection, experts that lie in one "
        what += "tensor, and on a CPU layers whose inputs are no multiple of 64 stay in %s"
        told = (100 * quantised / numbers, folder, precision.kind, str(precision.numbers).removeprefix("torch."))
        log.warning(what, *told, extra=event("warning"))
