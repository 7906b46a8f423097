"""Load a frozen base model from a local folder, find its target modules, and share it among threads without copies."""

import copy
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from client.data.tokens import padding_id
from common.errors import ModelError
from common.huggingface.base_folder import resolve_base, safetensors_files
from common.huggingface.new_head import HeadModule, initial_weight
from common.settings.tasks import TASKS
from common.settings.types import Dtype

AUTO_MODELS: Mapping[str, Any] = {"SEQ_CLS": AutoModelForSequenceClassification, "CAUSAL_LM": AutoModelForCausalLM}
"""Transformers' class for each of PEFT's kinds of models."""

_LOADING = threading.Lock()


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A frozen model with its tokenizer. `head` lists modules that the checkpoint lacks, the last projection last."""

    folder: Path
    model: Any
    tokenizer: Any
    task: str
    head: tuple[HeadModule, ...]

    @property
    def device(self) -> torch.device:
        """Device of the model's tensors."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def positions(self) -> int | None:
        """Longest row in tokens; None where positions are relative."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        table = getattr(getattr(self.model.base_model, "embeddings", None), "position_embeddings", None)
        offset = table.padding_idx if isinstance(table, nn.Embedding) else None
        return positions if offset is None or positions is None else positions - offset - 1

    def skeleton(self) -> "BaseModel":
        """Return the same tensors under new module objects, so that each thread can attach its own adapters."""
        shared = {id(t): t for t in (*self.model.parameters(), *self.model.buffers())}
        return BaseModel(self.folder, copy.deepcopy(self.model, shared), self.tokenizer, self.task, self.head)


def load_base(path: str, task: str, labels: tuple[str, ...], dtype: Dtype, device: str) -> BaseModel:
    """Load the base model, once per process, shared by all callers.

    Raises:
        ModelError: the folder is missing, contains no safetensors, or does not fit the task or the device.
    """
    with _LOADING:
        return _load(resolve_base(path), task, labels, dtype, _device(device))


@lru_cache(maxsize=4)
def _load(folder: Path, task: str, labels: tuple[str, ...], dtype: Dtype, device: str) -> BaseModel:
    safetensors_files(folder)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, missing = _load_model(folder, task, labels, dtype, tokenizer)
    except Exception as error:  # The libraries that read the folder raise many kinds of errors.
        raise ModelError(
            f"cannot load {folder} for {task}: {shorten(str(error), 200, placeholder=' ...')}; [base] path must be a "
            "complete Hugging Face folder, with tokenizer, of a model for this task"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(f"{folder} has no vocabulary; write the tokenizer there with save_pretrained()")
    head = _new_modules(model, missing)
    if TASKS[task].causal:
        _check_causal(folder, model, head)
    _initialise(model, head)
    return BaseModel(folder, model.requires_grad_(False).eval().to(device), tokenizer, task, head)


def _load_model(folder: Path, task: str, labels: tuple[str, ...], dtype: str, tokenizer: Any) -> tuple[Any, list[str]]:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for key, value in config.to_dict().items():
        if ("dropout" in key or key.endswith("pdrop")) and isinstance(value, float):
            setattr(config, key, 0.0)  # A frozen base sees every input; only A's inputs may be dropped.
    if TASKS[task].labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
    model, info = AUTO_MODELS[TASKS[task].peft].from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    if TASKS[task].labels:
        # A decoder classifies a row at its last token that is not this one.
        model.config.pad_token_id = padding_id(tokenizer)
    return model, sorted(info["missing_keys"])


def _check_causal(folder: Path, model: nn.Module, head: tuple[HeadModule, ...]) -> None:
    attention = {getattr(module, "is_causal", None) for module in model.modules()}
    sees_all = False in attention and True not in attention
    if head or sees_all:
        fault = f"lacks the weights of {head[0].name}" if head else "sees the tokens that it has to predict"
        raise ModelError(f"{folder} {fault}; it is not a causal language model: give a decoder such as GPT-2 or Llama")


def _new_modules(model: nn.Module, missing: Iterable[str]) -> tuple[HeadModule, ...]:
    lacking = {key.rpartition(".")[0] for key in missing if key.endswith(".weight")}
    new = [(n, m) for n, m in model.named_modules() if n in lacking and isinstance(m, nn.Linear)]
    return tuple(HeadModule(name, (name, module) == new[-1], module.bias is not None) for name, module in new)


def _initialise(model: nn.Module, head: Iterable[HeadModule]) -> None:
    for new in head:
        module = model.get_submodule(new.name)
        assert isinstance(module, nn.Linear)
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(initial_weight(new, (module.out_features, module.in_features))))
            if module.bias is not None:
                module.bias.zero_()


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ModelError(f"device = {device!r} (in a recipe: [base] device): use auto, cpu, cuda or cuda:NUMBER")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"device = {device!r} (in a recipe: [base] device): {reason}; use auto or cpu") from None
    return device
