"""What is asked of an export, checked before a model is read; without PyTorch."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from common.errors import ConfigError

Form = Literal["peft", "gguf", "merged"]
MergedDtype = Literal["auto", "float32", "bfloat16", "float16"]
MAX_GAP = 0.05
"""Merges in 16 bits were up to 0.041 away, those into the base from before it was held in 4 bits 0.054 to 0.32."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """An export.

    Args:
        form: of the folder.
        rank: of every module of an adapter; the largest of the run's modules if not set.
        base_name: of the base model, as on a hub; what the run says if not set.
        dtype: of a merged model; `auto` is the checkpoint's own.
        max_gap: largest mean difference of a merged model's logits, in standard deviations of the logits.
        push: name on a hub to upload the folder to.
    """

    form: Form = "peft"
    rank: int | None = None
    base_name: str | None = None
    dtype: MergedDtype = "auto"
    max_gap: float = MAX_GAP
    push: str | None = None


def check_request(request: Request) -> None:
    """Check what can be checked without the run.

    Raises:
        ConfigError: an option is wrong, or means nothing for this form.
    """
    merged = request.form == "merged"
    if request.rank is not None and request.rank < 1:
        raise ConfigError(f"--rank {request.rank} is below 1; give the rank of the adapter's modules")
    if request.rank is not None and merged:
        raise ConfigError(f"--rank {request.rank}: a merged model has no rank; leave it out, or export an adapter")
    if request.dtype != "auto" and not merged:
        raise ConfigError(f"--dtype {request.dtype} is for --format merged; adapters are float32, so leave it out")
    if not 0 < request.max_gap < inf:
        raise ConfigError(f"--max-gap {request.max_gap} is no positive number; leave it out for {MAX_GAP}")
    if request.max_gap != MAX_GAP and not merged:
        raise ConfigError(f"--max-gap {request.max_gap} is for --format merged; an adapter has no gap, so leave it out")
    if request.base_name is not None and not is_hub_name(request.base_name):
        raise ConfigError(f"--base-name {request.base_name!r} is not a name on a hub; write ORG/NAME")
    if request.push is not None and not (is_hub_name(request.push) and "/" in request.push):
        raise ConfigError(f"--push {request.push!r} is not a name on a hub; write ORG/NAME")


def is_hub_name(name: str) -> bool:
    """Return whether a hub could have a model of this name: `ORG/NAME`, or `NAME` as the oldest ones."""
    # Not above: its settings of the environment are read at the import, which `fedlora` makes before.
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
