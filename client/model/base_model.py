"""Load a frozen base model from a local folder, find its target modules, and share it among threads without copies."""

import copy
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
)
from transformers.utils import logging as transformers_logging

from client.data.tokens import padding_id
from client.model.head import Lacking, check_own_head, initialise, new_modules
from client.model.precision import find_device
from client.model.quantised import shared_parts, to_evaluation
from client.model.quantised_base import Precision, find_precision, finish
from common.errors import ModelError
from common.huggingface.base_folder import ADAPTER, resolve_base
from common.huggingface.fingerprint import tensor_shapes
from common.huggingface.new_head import HeadModule
from common.log_format import event
from common.settings.tasks import SINGLE, TASKS, Problem
from common.settings.types import Dtype, Head

AUTO_MODELS: Mapping[str, Any] = {
    "SEQ_CLS": AutoModelForSequenceClassification,
    "CAUSAL_LM": AutoModelForCausalLM,
    "SEQ_2_SEQ_LM": AutoModelForSeq2SeqLM,
}
"""Transformers' class for each of PEFT's kinds of models."""

log = logging.getLogger(__name__)

_NO_ADAPTER = "\0"
"""A subfolder that no file system has: there Transformers looks for an adapter, to load it unasked."""
_ADDED = frozenset(("<|endoftext|>", "<unk>", "<s>", "</s>"))
"""Tokens that Transformers adds to a tokenizer from a GGUF file that lacks them; a row that names one is refused."""
_NOISE = ("dropout", "layerdrop")
"""Parts of the names of settings by which a model in training mode leaves out inputs or layers."""
_SCALES = "moe_token_dropout"
"""Setting of NLLB-MoE that also scales the outputs of experts where nothing is left out, so it stays."""
_LONGEST = ("max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings")
_LOADING = threading.Lock()


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A frozen model with its tokenizer.

    Args:
        folder: that it is from.
        model: of Transformers.
        tokenizer: likewise.
        task: of the rows.
        head: modules that the checkpoint lacks, or that are replaced, the last projection last.
        replaced: the checkpoint has a head of its own, and `head` replaces it.
    """

    folder: Path
    model: Any
    tokenizer: Any
    task: str
    head: tuple[HeadModule, ...]
    replaced: bool = False

    @property
    def device(self) -> torch.device:
        """Device of the model's tensors."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def positions(self) -> int | None:
        """Longest row in tokens, of an encoder with a decoder that fits both; None where positions are relative."""
        model, config = self.model, self.model.config
        sides = [(getattr(model, side, model), getattr(config, side, None)) for side in ("encoder", "decoder")]
        parts = [(model, config.get_text_config()), *(side for side in sides if isinstance(side[1], PretrainedConfig))]
        return min((found for part in parts for found in _positions(*part)), default=None)

    def skeleton(self) -> "BaseModel":
        """Return the same tensors under new module objects, so that each thread can attach its own adapters."""
        held = (*self.model.parameters(), *self.model.buffers(), *shared_parts(self.model))
        shared = {id(each): each for each in held}
        return replace(self, model=copy.deepcopy(self.model, shared))


def _positions(model: Any, config: Any) -> Iterator[int]:
    for positions in (getattr(config, key, None) for key in _LONGEST):
        if positions is not None and positions > 0:  # XLNet has -1
            table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
            offset = table.padding_idx if isinstance(table, nn.Embedding) else None
            yield int(positions) if offset is None else int(positions) - offset - 1


def load_base(
    path: str,
    task: str,
    labels: tuple[str, ...],
    dtype: Dtype,
    device: str,
    head: Head = "keep",
    problem_type: Problem = SINGLE,
) -> BaseModel:
    """Load the base model, once per process, shared by all callers; `problem_type` is that of a task with labels.

    Raises:
        ModelError: the folder is missing, contains no safetensors, or does not fit the task or the device.
    """
    with _LOADING:
        folder, place = resolve_base(path), find_device(device)
        return _load(folder, task, labels, find_precision(folder, dtype, place), place, head, problem_type)


@lru_cache(maxsize=4)
def _load(
    folder: Path, task: str, labels: tuple[str, ...], precision: Precision, device: str, kept: Head, problem: Problem
) -> BaseModel:
    tensor_shapes(folder)  # Raises for a damaged file by its name.
    if (folder / ADAPTER).exists():
        log.warning(
            "%s has an adapter beside the base model's weights (%s), which is not loaded: the base is used without it; "
            "if a run is to begin at it, set [base] adapter to this folder",
            folder,
            ADAPTER,
            extra=event("warning"),
        )
    replaces = TASKS[task].labels and kept == "new"
    if TASKS[task].labels and not replaces:
        check_own_head(folder, labels, problem)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, lacking = _load_model(folder, task, labels, precision, device, tokenizer, problem)
    except ModelError:
        raise
    except Exception as error:  # The libraries that read the folder raise many kinds of errors.
        raise ModelError(
            f"cannot load {folder} for {task}: {shorten(str(error), 200, placeholder=' ...')}; [base] path must be a "
            "complete Hugging Face folder, with tokenizer, of a model for this task"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(f"{folder} has no vocabulary; write the tokenizer there with save_pretrained()")
    _check_ids(folder, model, tokenizer)
    head, replaced = new_modules(folder, model, lacking, replaces)
    if TASKS[task].generates:
        _check_language_model(folder, model, head, task)
    initialise(model, head)
    to_evaluation(model.requires_grad_(False))
    placed = model if precision.kind else model.to(device)  # bitsandbytes loses its scales on the way
    return BaseModel(folder, placed, tokenizer, task, head, replaced)


def _load_model(
    folder: Path,
    task: str,
    labels: tuple[str, ...],
    precision: Precision,
    device: str,
    tokenizer: Any,
    problem: Problem,
) -> tuple[Any, Lacking]:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _check_kind(folder, config, task)
    _switch_off_noise(config)
    if TASKS[task].labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        config.problem_type = problem
    auto = AUTO_MODELS[TASKS[task].peft]
    model, info = auto.from_pretrained(
        folder,
        config=config,
        dtype=precision.numbers,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # We name the tensor.
        adapter_kwargs={"subfolder": _NO_ADAPTER},
        **precision.arguments(lambda: _without_data(auto, config), device),
    )
    if precision.kind:
        finish(folder, model, precision, device, info["missing_keys"])
    if TASKS[task].labels:
        # A decoder classifies a row at its last token that is not this one.
        model.config.pad_token_id = padding_id(tokenizer)
    return model, Lacking(sorted(info["missing_keys"]), [key for key, *_ in info["mismatched_keys"]])


def _without_data(auto: Any, config: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = auto.from_config(config, trust_remote_code=False)
    return model


def _switch_off_noise(config: Any) -> None:
    """Set dropout of all kinds to 0, in all parts: a frozen base sees every input; only A's inputs may be dropped."""
    for key, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            _switch_off_noise(value)
        elif isinstance(value, float) and key != _SCALES and (any(n in key for n in _NOISE) or key.endswith("pdrop")):
            setattr(config, key, 0.0)


def _check_kind(folder: Path, config: Any, task: str) -> None:
    """Check that Transformers has a class for the task, and that a base has an encoder beside its decoder or none."""
    kind, auto = config.model_type, AUTO_MODELS[TASKS[task].peft]
    if TASKS[task].causal and config.is_encoder_decoder:
        raise ModelError(
            f"{folder} is a {kind} model, an encoder with a decoder, and task = {task!r} is for decoders alone; set "
            "task = 'seq2seq' (in a recipe: [data] task), or give a decoder such as GPT-2 or Llama"
        )
    if TASKS[task].seq2seq and not config.is_encoder_decoder:
        raise ModelError(
            f"{folder} is a {kind} model, and task = {task!r} is for an encoder with a decoder, such as T5 or BART; "
            "give one, or for a decoder such as GPT-2 or Llama set task = 'causal-lm' (in a recipe: [data] task)"
        )
    if type(config) not in auto._model_mapping:
        raise ModelError(
            f"cannot load {folder} for {task}: the installed Transformers has no {auto.__name__[4:]} of a {kind} "
            "model; [base] path must be the folder of a model for this task"
        )


def _check_ids(folder: Path, model: Any, tokenizer: Any) -> None:
    """Check that the embedding has a row for each token, but for those of `_ADDED` that stand for nothing."""
    rows, unused = model.get_input_embeddings().weight.shape[0], _ADDED - {*tokenizer.all_special_tokens}
    if (last := max(number for token, number in tokenizer.get_vocab().items() if token not in unused)) >= rows:
        raise ModelError(
            f"{folder}: the tokenizer has ids up to {last}, but the model's embedding has {rows} rows; give the "
            "tokenizer that the model was trained with, or save the model after resize_token_embeddings()"
        )


def _check_language_model(folder: Path, model: nn.Module, head: tuple[HeadModule, ...], task: str) -> None:
    attention = {getattr(module, "is_causal", None) for module in model.modules()}
    sees_all = False in attention and True not in attention and TASKS[task].causal
    if head or sees_all:
        fault = f"lacks the weights of {head[0].name}" if head else "sees the tokens that it has to predict"
        what = "a causal language model: give a decoder such as GPT-2 or Llama"
        if TASKS[task].seq2seq:
            what = "an encoder with a decoder that writes text: give one such as T5 or BART, with its output layer"
        raise ModelError(f"{folder} {fault}; it is not {what}")
