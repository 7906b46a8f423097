"""The choice of the modules in a base model that are adapted."""

import re

from torch import nn
from transformers.pytorch_utils import Conv1D

from client.model.base_model import BaseModel
from common.errors import ConfigError, nearest

QUERY_VALUE = frozenset(
    (
        *("q_proj", "v_proj", "query", "value", "query_proj", "value_proj", "q_lin", "v_lin", "q", "v"),
        *("c_attn", "in_proj", "qkv_proj", "query_key_value", "Wqkv"),
    )
)
"""Last part of the names of query and value projections: Llama, BERT, RoBERTa, DeBERTa-v2, DistilBERT, T5, ViT and,
fused with the key, GPT-2, DeBERTa, Phi-3, GPT-NeoX and ModernBERT (arXiv 2106.09685, section 7.1: adapt Wq and Wv)."""


def find_targets(base: BaseModel, targets: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the modules to adapt: those that [lora] targets selects, and the new head.

    Raises:
        ConfigError: nothing matches; the nearest names are listed.
    """
    output = base.model.get_output_embeddings()
    new = {module.name for module in base.head}
    linear = [
        name
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output and name not in new
    ]
    embeddings = [name for name, module in base.model.named_modules() if isinstance(module, nn.Embedding)]
    return tuple(sorted({*_match(targets, linear, embeddings), *new}))


def _match(targets: str | tuple[str, ...], linear: list[str], embeddings: list[str]) -> list[str]:
    if targets == "all-linear":
        return linear
    if targets == "query-value":
        return _require([n for n in linear if _last(n) in QUERY_VALUE], "query-value", linear)
    if isinstance(targets, tuple):
        return [
            name for target in targets for name in _require(_match_end(target, linear + embeddings), target, linear)
        ]
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise ConfigError(f"[lora] targets = {targets!r} is not a valid regular expression: {error}") from None
    return _require([name for name in linear + embeddings if pattern.fullmatch(name)], targets, linear)


def _match_end(target: str, names: list[str]) -> list[str]:
    return [name for name in names if name == target or name.endswith(f".{target}")]


def _require(found: list[str], target: str, linear: list[str]) -> list[str]:
    if not found:
        raise ConfigError(f"[lora] targets = {target!r} matches no module{nearest(target, {_last(n) for n in linear})}")
    return found


def _last(name: str) -> str:
    return name.rpartition(".")[2]
