"""What PEFT makes of an adapter's folder: loaded over the base, before the folder is kept."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from torch import Tensor, nn

from client.finished.run import Trained
from client.model.adaptable import unfit_modules
from client.model.quantised_library import settle_library
from common.adapters.adapter import Adapter, Factors
from common.errors import ModelError

_REMEDY = "`fedlora merge` writes the update into the base"


def check_known(trained: Trained) -> None:
    """Check what is known without loading: PEFT would apply only part of an update, as of a run of an earlier release.

    Raises:
        ModelError: names the modules.
    """
    unfit = unfit_modules(trained.base.model)
    if refused := [name for name, factors in trained.adapter.items() if name in unfit and factors.b.any()]:
        raise _refusal(refused, unfit[refused[0]])


def check_loaded(folder: Path, trained: Trained, adapter: Adapter) -> None:
    """Check that PEFT applies each of these modules as it is.

    Args:
        folder: of the adapter.
        trained: the run.
        adapter: what the folder holds beside the head.

    Raises:
        ModelError: names the modules that PEFT leaves as they are.
    """
    loaded = _load(folder, trained.base.skeleton().model)
    if left := [name for name, factors in adapter.items() if not _has(loaded.get_submodule(name), factors)]:
        raise _refusal(left, "the installed PEFT does not apply it")


def _load(folder: Path, model: Any) -> nn.Module:
    settle_library()
    from peft import PeftModel  # Not above: it takes seconds.

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded: nn.Module = PeftModel.from_pretrained(model, folder, trust_remote_code=False).get_base_model()
        except (ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
            reason = shorten(str(error), 200, placeholder=" ...")
            raise ModelError(f"the installed PEFT cannot load the export: {reason}; {_REMEDY}") from None
    return loaded


def _has(module: nn.Module, factors: Factors) -> bool:
    """Return whether PEFT's layer has these factors, but for their precision."""
    held = [*_factors(module, ("lora_A", "lora_embedding_A")), *_factors(module, ("lora_B", "lora_embedding_B"))]
    return len(held) == 2 and all(
        one.shape == each.shape and np.allclose(one.float().cpu().numpy(), each, rtol=1e-2, atol=1e-6)
        for one, each in zip(held, (factors.a, factors.b), strict=True)
    )


def _factors(module: nn.Module, names: Iterable[str]) -> Iterable[Tensor]:
    for name in names:
        held = getattr(module, name, None)
        if isinstance(held, nn.ModuleDict | nn.ParameterDict) and "default" in held:
            each: Any = held["default"]
            yield each.weight.detach() if hasattr(each, "weight") else each.detach()


def _refusal(names: list[str], reason: str) -> ModelError:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return ModelError(f"{len(names)} modules of the update cannot be exported for PEFT: {shown}: {reason}; {_REMEDY}")
