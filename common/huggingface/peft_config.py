"""The `adapter_config.json` of a Hugging Face PEFT folder: ranks and scales of its tensors; nothing is guessed."""

import json
import re
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from common.errors import ConfigError, ModelError
from common.plain_files import SETTINGS, read_plain
from common.settings.reader import parse_settings
from common.settings.types import Count

CONFIG = "adapter_config.json"
REMEDY = "fedlora reads plain LoRA on whole matrices; train or convert the adapter without that setting"

_BEYOND_LORA = (
    *("use_dora", "lora_bias", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config"),
    *("layer_replication", "target_parameters", "trainable_token_indices", "alora_invocation_tokens"),
)

_ByModule = Mapping[re.Pattern[str], Annotated[float, Field(gt=0)]]


@dataclass(frozen=True, config=ConfigDict(extra="ignore", allow_inf_nan=False))
class LoraConfig:
    """The settings that give the tensors their meaning; an initialisation not named here alters the base model."""

    peft_type: Literal["LORA"]
    r: Count
    lora_alpha: float
    use_rslora: bool = False
    bias: Literal["none"] = "none"
    init_lora_weights: Literal[True, False, "gaussian", "eva", "orthogonal"] = True
    rank_pattern: _ByModule | None = None
    alpha_pattern: _ByModule | None = None
    base_model_name_or_path: str | None = None

    def rank(self, name: str) -> int:
        """Return r of a module."""
        return int(_match_module(name, self.rank_pattern, self.r))

    def scaling(self, name: str) -> float:
        """Return s = alpha / r of a module; alpha / sqrt(r) with rsLoRA (arXiv 2312.03732, eq. 8)."""
        alpha, rank = _match_module(name, self.alpha_pattern, self.lora_alpha), self.rank(name)
        return alpha / (sqrt(rank) if self.use_rslora else rank)


def _match_module(name: str, patterns: _ByModule | None, default: float) -> float:
    """Return the value by PEFT's rule: the first pattern that matches the whole name, or its end after a dot."""
    found = (value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key.pattern})$", name))
    return next(found, default)


def read_config(path: Path) -> LoraConfig:
    """Read the settings in this file.

    Raises:
        ModelError: it is missing or not JSON, or its adapter does more than add s B A.
    """
    settings = _read_json(path)
    try:
        config = parse_settings(LoraConfig, settings, str(path))
    except ConfigError as error:
        raise ModelError(f"{error}; {REMEDY}") from None
    for key in _BEYOND_LORA:
        if settings.get(key):
            raise ModelError(f"{path}: {key} = {settings[key]!r} cannot be expressed as s B A; {REMEDY}")
    return config


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_plain(path, SETTINGS, links=True).decode())
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; give the folder of a PEFT adapter") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON ({error}); save the adapter again") from None
