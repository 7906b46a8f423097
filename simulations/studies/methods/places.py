"""Where a method goes in a Transformer: its projections by what they do, and its layers."""

from collections.abc import Callable, Mapping, Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from client.model.base_model import BaseModel
from common.errors import ModelError

ROLES: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "q_proj", "query_proj", "q_lin", "q"),
    "key": ("key", "k_proj", "key_proj", "k_lin", "k"),
    "value": ("value", "v_proj", "value_proj", "v_lin", "v"),
    "output": (
        *("attention.output.dense", "o_proj", "out_proj", "out_lin", "attn.c_proj", "attention.dense"),
        *("SelfAttention.o", "attn.Wo"),
    ),
    "feed-forward": (
        *("output.dense", "down_proj", "fc2", "mlp.c_proj", "lin2", "dense_4h_to_h", "DenseReluDense.wo", "mlp.Wo"),
    ),
}
"""The ends of the names of a layer's projections in the architectures of Transformers, by role."""
FUSED = "attn.c_attn", "qkv_proj", "query_key_value", "Wqkv", "in_proj"
"""Those of a projection that is query, key and value in one: GPT-2, Phi-3, GPT-NeoX, ModernBERT and DeBERTa."""


def projections(base: BaseModel, role: str) -> tuple[str, ...]:
    """Return the names of the projections of a role, one a layer, in order.

    Raises:
        ModelError: the architecture has no such module of its own, as GPT-2, which has query, key and value in one.
    """
    found = _matching(base, lambda name: role_of(name) == role)
    if not found:
        layer = next(iter(layers(base).values()))
        there = ", ".join(name for name, each in layer.named_modules() if isinstance(each, nn.Linear | Conv1D))
        raise ModelError(
            f"{base.folder} has no projection for {role} of its own; a layer has {there}. Use a base with separate "
            "query, key, value and output projections, such as BERT, RoBERTa or Llama"
        )
    return found


def fused_projections(base: BaseModel) -> tuple[str, ...]:
    """Return the names of the projections that are query, key and value in one; none where each is its own."""
    return _matching(base, lambda name: any(name == end or name.endswith(f".{end}") for end in FUSED))


def _matching(base: BaseModel, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the names of all layers' matrices whose names in a layer fit, in order."""
    return tuple(
        f"{place}.{name}"
        for place, layer in layers(base).items()
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and fits(name)
    )


def role_of(name: str) -> str | None:
    """Return the role of a projection by its name in a layer; None for others."""
    for role, ends in ROLES.items():
        if any(name == end or name.endswith(f".{end}") for end in ends):
            return role
    return None


def layers(base: BaseModel) -> Mapping[str, nn.Module]:
    """Return the layers of a Transformer by name, in order.

    Raises:
        ModelError: it has no one list of them, as an encoder with a decoder.
    """
    count = getattr(base.model.config.get_text_config(), "num_hidden_layers", None)
    lists = {name: each for name, each in base.model.named_modules() if isinstance(each, nn.ModuleList)}
    fitting: Sequence[str] = [name for name, each in lists.items() if len(each) == count]
    if len(fitting) != 1:
        raise ModelError(
            f"{base.folder}, a {base.model.config.model_type}, has {len(fitting)} lists of {count} layers, and a "
            "method that goes into layers needs one; use an encoder such as BERT or a decoder such as Llama"
        )
    return {f"{fitting[0]}.{number}": each for number, each in enumerate(lists[fitting[0]])}
