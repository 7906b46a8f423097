"""Which modules of a model can be adapted: those that multiply with a matrix here as in PEFT, where adapters end up."""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from client.model.quantised import is_quantised

_MAMBA = frozenset(("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"))
"""Types of models of which PEFT refuses `out_proj`: its kernels read that weight without calling the module."""
_FUSED = frozenset(("gate_up_proj", "down_proj", "gate_proj", "up_proj", "w1", "w2", "w3"))
"""Parameters that hold a matrix for each expert."""
_TAKEN = frozenset(("gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"))
"""Names of modules that PEFT takes for the experts of such a model, also those of a dense layer or a shared expert."""
_APART = frozenset(("jamba", "lfm2_moe", "llama4", "llama4_text", "qwen2_moe", "qwen3_5_moe", "qwen3_5_moe_text"))
"""Types of models with experts in which PEFT leaves such modules as they are."""


def unfit_modules(model: nn.Module) -> dict[str, str]:
    """Return the linear layers and embeddings that cannot be adapted, by name, with the reason."""
    kind = getattr(getattr(model, "config", None), "model_type", "")
    fused = kind not in _APART and _has_fused_experts(model)
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
        elif last == "out_proj" and kind in _MAMBA:
            found[name] = f"PEFT refuses {last} of a {kind} model"
        elif last in _TAKEN and fused:
            found[name] = (
                f"PEFT takes {last} of a {kind} model for its fused experts, and applies nothing to this module"
            )
    return found


def _has_fused_experts(model: nn.Module) -> bool:
    return any(p.ndim == 3 and name.rpartition(".")[2] in _FUSED for name, p in model.named_parameters())


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
