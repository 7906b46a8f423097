"""Which modules of a model can be adapted: those that multiply with a matrix here as in PEFT, where adapters end up."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, conversion_mapping
from transformers.pytorch_utils import Conv1D

from client.model.quantised import is_quantised

_MAMBA = frozenset(("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"))
"""Types of models of which PEFT refuses `out_proj`: its kernels read that weight without calling the module."""
_PAST = {"falcon_mamba": "dt_proj", "jamba": "dt_proj", "mamba": "dt_proj"}
"""Modules whose weight the forward pass reads without calling them, by the type of the model."""
_EXPERTS = {
    "mixtral": frozenset(("gate", "w1", "w2", "w3")),
    "qwen2_moe": frozenset(("gate", "gate_proj", "up_proj", "down_proj")),
}
"""Names that PEFT takes for a model's experts and their router, also those of a dense layer or a shared expert.

By the type of a model whose checkpoints Transformers converts likewise; whether this one has experts does not matter.
"""


def unfit_modules(model: nn.Module) -> dict[str, str]:
    """Return the linear layers and embeddings that cannot be adapted, by name, with the reason."""
    kind = getattr(getattr(model, "config", None), "model_type", "")
    taken = _taken_for_experts(kind)
    inside = {
        id(part) for each in model.modules() if isinstance(each, nn.MultiheadAttention) for part in each.modules()
    }
    found = {}
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if not isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            continue
        if isinstance(module, nn.Embedding) and not _looks_up(module):
            found[name] = f"a {type(module).__name__} does more than look up rows"
        elif isinstance(module, nn.Linear) and not _gives_a_tensor(module):
            found[name] = f"a {type(module).__name__} does not return one tensor"
        elif id(module) in inside:
            found[name] = "its attention reads the weight without calling the module"
        elif last == _PAST.get(kind):
            found[name] = f"a {kind} model reads its weight without calling the module"
        elif last == "out_proj" and kind in _MAMBA:
            found[name] = f"PEFT refuses {last} of a {kind} model"
        elif last in taken:
            found[name] = f"PEFT takes {last} of a {kind} model for its fused experts, not for this module"
    return found


def unreached_modules(model: nn.Module) -> dict[str, str]:
    """Return the modules of a model for pictures or sound too, through which no text passes, with the reason."""
    config = getattr(model, "config", None)
    if not isinstance(model, PreTrainedModel) or config is None or config.is_encoder_decoder:
        return {}
    body, text = f"{model.base_model_prefix}.", _text_part(model)
    towers = tuple(f"{name}." for name, each in model.named_modules() if _is_tower(each, config))
    return {
        name: "texts do not pass through it"
        for name, _ in model.named_modules()
        if name.startswith(towers) or (text and name.startswith(body) and not name.startswith(text))
    }


def _text_part(model: PreTrainedModel) -> str:
    """Return what names of the modules for texts begin with in a model of several parts; nothing if it has one."""
    if model.config.get_text_config() is model.config:
        return ""
    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    return next(f"{name}." if name else "" for name, each in model.named_modules() if each is decoder)


def _is_tower(module: nn.Module, config: PreTrainedConfig) -> bool:
    """Return whether this is a model inside another one, with settings of its own that are not those of its text."""
    return isinstance(module, PreTrainedModel) and not isinstance(
        module.config, (type(config), type(config.get_text_config()))
    )


def _taken_for_experts(kind: str) -> frozenset[str]:
    """Return the names that PEFT takes for experts in a model of this type, by the table of Transformers as PEFT does.

    Only modules are looked at here: what is a parameter of fused experts is no target of ours.
    """
    alike: dict[str, str] = getattr(conversion_mapping, "_MODEL_TO_CONVERSION_PATTERN", {})
    return _EXPERTS.get("mixtral" if kind == "mixtral" else alike.get(kind, ""), frozenset())


def _looks_up(module: nn.Embedding) -> bool:
    """Return whether an embedding returns rows, or rows times its scale, as Gemma's does."""
    return type(module).forward is nn.Embedding.forward or hasattr(module, "embed_scale")


def _gives_a_tensor(module: nn.Linear) -> bool:
    """Return whether a linear layer, if it computes in its own way, returns outputs only; some routers return more."""
    if type(module).forward is nn.Linear.forward or is_quantised(module):
        return True
    try:
        with torch.no_grad():
            output = module(module.weight.new_zeros(2, module.in_features))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return isinstance(output, Tensor) and output.shape == (2, module.out_features)
