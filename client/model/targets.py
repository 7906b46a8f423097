"""The choice of the modules in a base model that are adapted."""

import logging
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from client.model.adaptable import unfit_modules, unreached_modules
from client.model.base_model import BaseModel
from common.errors import ConfigError, nearest
from common.log_format import event

PRESETS = ("all-linear", "query-value")
"""Words for a choice of modules, in place of names."""
QUERY_VALUE = frozenset(
    (
        *("q_proj", "v_proj", "query", "value", "query_proj", "value_proj", "q_lin", "v_lin", "q", "v"),
        *("c_attn", "in_proj", "qkv_proj", "query_key_value", "Wqkv"),
    )
)
"""Last part of the names of query and value projections: Llama, BERT, RoBERTa, DeBERTa-v2, DistilBERT, T5, ViT and,
fused with the key, GPT-2, DeBERTa, Phi-3, GPT-NeoX and ModernBERT (arXiv 2106.09685, section 7.1: adapt Wq and Wv)."""


log = logging.getLogger(__name__)


def find_targets(base: BaseModel, targets: str | tuple[str, ...], begun: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of the modules to adapt: those that [lora] targets selects, and the new head.

    Modules through which no text passes are left out, and of `all-linear` and `query-value` those that cannot be
    adapted, which is said.

    Args:
        base: the model.
        targets: as [lora] targets.
        begun: modules that a run has begun with, which stay targets whatever is known of them today.

    Raises:
        ConfigError: nothing matches, and the nearest names are listed; or a module that is named cannot be adapted.
    """
    found, new = _find(base, targets), {module.name for module in base.head}
    unfit, unreached = (
        {name: reason for name, reason in reasons(base.model).items() if name not in begun}
        for reasons in (unfit_modules, unreached_modules)
    )
    left_out = {**unreached, **unfit} if targets in PRESETS else unreached
    kept = [name for name in found if name not in left_out]
    known = {**unreached, **unfit}
    if refused := next((name for name in kept or found if name in known), None):
        raise ConfigError(
            f"[lora] targets = {_spell(targets)} names {refused}, which cannot be adapted: {known[refused]}; name "
            "other modules"
        )
    _say_left_out(base.folder, _spell(targets), tuple((name, left_out[name]) for name in found if name in left_out))
    return tuple(sorted({*kept, *new}))


def _find(base: BaseModel, targets: str | tuple[str, ...]) -> list[str]:
    """Return the modules that are selected, without those of the new head."""
    named, last = list(base.model.named_modules()), base.model.get_output_embeddings()
    new = {module.name for module in base.head}
    linear = [
        name for name, each in named if isinstance(each, nn.Linear | Conv1D) and each is not last and name not in new
    ]
    if targets in PRESETS:
        return _require(_preset(str(targets), linear), targets, linear)
    embeddings = [name for name, each in named if isinstance(each, nn.Embedding)]
    output = [name for name, each in named if each is last and isinstance(each, nn.Linear)]
    return _match(targets, linear, embeddings, output)


@lru_cache(maxsize=64)
def _say_left_out(folder: Path, targets: str, left_out: tuple[tuple[str, str], ...]) -> None:
    """Say, once per process, which modules a choice leaves out."""
    for reason in dict.fromkeys(reason for _, reason in left_out):
        names = [name for name, each in left_out if each == reason]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        what = "[lora] targets = %s leaves out %s of %s: %s"
        log.warning(what, targets, shown, folder, reason, extra=event("warning"))


def _preset(targets: str, linear: list[str]) -> list[str]:
    return linear if targets == "all-linear" else [name for name in linear if _last(name) in QUERY_VALUE]


def _match(targets: str | tuple[str, ...], linear: list[str], embeddings: list[str], output: list[str]) -> list[str]:
    """Return the modules that are named; an expression means the output projection only if it spells its name."""
    if isinstance(targets, tuple):
        known = linear + embeddings + output
        return [name for target in targets for name in _require(_match_end(target, known), target, linear)]
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise ConfigError(f"[lora] targets = {targets!r} is not a valid regular expression: {error}") from None
    known = linear + embeddings + [name for name in output if _last(name) in targets]
    return _require([name for name in known if pattern.fullmatch(name)], targets, linear)


def _match_end(target: str, names: list[str]) -> list[str]:
    return [name for name in names if name == target or name.endswith(f".{target}")]


def _require(found: list[str], target: Any, linear: list[str]) -> list[str]:
    if not found and not linear:
        raise ConfigError(f"[lora] targets = {target!r} matches no module: the model has no linear layer to adapt")
    if not found:
        raise ConfigError(f"[lora] targets = {target!r} matches no module{nearest(target, {_last(n) for n in linear})}")
    return found


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _spell(targets: str | tuple[str, ...]) -> str:
    return repr(list(targets) if isinstance(targets, tuple) else targets)
