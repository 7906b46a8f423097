"""The type of a base model's numbers in memory, and the device that they are on."""

import logging
import re
from collections import Counter
from functools import lru_cache
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from common.errors import ModelError
from common.huggingface.base_folder import safetensors_files
from common.log_format import event
from common.settings.types import Dtype

log = logging.getLogger(__name__)

_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Types of numbers by their names in a safetensors file."""
_QUANTISED = ("U8", "I8")
"""Types of the codes of quantised weights."""
_CPU_FEATURES = Path("/proc/cpuinfo")


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the type that most numbers of a checkpoint have, but for quantised ones; float32 if that is none of ours.

    Raises:
        ModelError: the folder contains no safetensors, or a file of it is damaged.
    """
    counts: Counter[str] = Counter()
    for file in safetensors_files(folder):
        try:
            with safe_open(file, framework="np") as stored:
                for name in stored.keys():  # noqa: SIM118
                    tensor = stored.get_slice(name)
                    if tensor.get_dtype() not in _QUANTISED:
                        counts[tensor.get_dtype()] += prod(tensor.get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is not a complete safetensors file ({error}); copy it again") from None
    return _STORED.get(max(counts, key=counts.__getitem__, default=""), torch.float32)


def find_dtype(folder: Path, asked: Dtype, device: str) -> torch.dtype:
    """Return the type to load a base model in: `auto` is its checkpoint's, or float32 where the device has no units.

    Raises:
        ModelError: the folder contains no safetensors.
    """
    if asked != "auto":
        dtype: torch.dtype = getattr(torch, asked)
        return dtype
    stored = stored_dtype(folder)
    if stored == torch.float32 or computes_in(stored, device):
        return stored
    _say_float32(folder, str(stored).removeprefix("torch."), device)
    return torch.float32


@lru_cache(maxsize=32)
def _say_float32(folder: Path, stored: str, device: str) -> None:
    what = (
        "%s is stored in %s and held in float32, twice the size: %s has no units for %s; dtype = %r holds it as stored"
    )
    log.warning(what, folder, stored, device, stored, stored, extra=event("warning"))


def computes_in(dtype: torch.dtype, device: str) -> bool:
    """Return whether a device has units for a 16-bit type, so that it is no slower than float32."""
    if device.startswith("cuda"):
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "mps" or (dtype == torch.bfloat16 and _cpu_has_bfloat16())


def _cpu_has_bfloat16() -> bool:
    probes = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    if any(probe() for probe in probes):
        return True
    words = _CPU_FEATURES.read_text().split() if _CPU_FEATURES.is_file() else []
    return "bf16" in words  # as an ARM has it; x86 has a word of its own


def find_device(device: str) -> str:
    """Return the device of this name; `auto` is a GPU of CUDA, then one of Apple, then the CPU.

    Raises:
        ModelError: there is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    what = f"device = {device!r} (in a recipe: [base] device)"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise ModelError(f"{what}: use auto, cpu, mps, cuda or cuda:NUMBER")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"{what}: this machine, or its PyTorch, has no Apple GPU; use auto or cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{what}: {str(error).splitlines()[0]}; use auto or cpu") from None
    return device
