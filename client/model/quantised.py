"""Linear layers in 4 or 8 bits, as bitsandbytes holds them: what is in memory, and their weights as numbers again."""

import copy
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

BITS = {"nf4": 4, "fp4": 4, "int8": 8}
"""Bits of a weight, by how it is held; its scales come on top."""
BLOCK = 64
"""Weights that share a scale in 4 bits."""


def is_quantised(module: nn.Module) -> bool:
    """Return whether bitsandbytes holds the module's weight."""
    return type(module).__module__.startswith("bitsandbytes")


def quantised_modules(model: nn.Module) -> dict[str, Any]:
    """Return the layers that bitsandbytes holds, by name."""
    return {name: module for name, module in model.named_modules() if is_quantised(module)}


def kind_of(model: nn.Module) -> str | None:
    """Return how the layers of a model are held, `nf4`, `fp4` or `int8`; None if none is quantised."""
    first = next(iter(quantised_modules(model).values()), None)
    return None if first is None else getattr(first.weight, "quant_type", "int8")


def settle(model: nn.Module, dtype: torch.dtype) -> None:
    """Make the layers compute in this type, and keep them from changing what they hold in their first pass.

    On a CPU with units for bfloat16, bitsandbytes packs 4-bit weights anew at the first pass without gradients: scales
    are rounded, and later passes have no gradients. In 8 bits the first pass moves the scales, which skeletons share.
    """
    for module in quantised_modules(model).values():
        if _is_4bit(module):
            module.support_avx512bf16_for_cpu = False
            module.compute_dtype, module.compute_type_is_set = dtype, True
        elif module.weight.CB is not None:
            module.init_8bit_state()


def to_evaluation(model: nn.Module) -> None:
    """Set a model to evaluation, but for layers in 8 bits: on a CPU, these would then round their inputs to 8 bits too.

    How a row's inputs are rounded depends on the rows beside it.
    """
    model.eval()
    for module in quantised_modules(model).values():
        module.train(not _is_4bit(module))


def shared_parts(model: nn.Module) -> Iterator[object]:
    """Yield what layers hold beside their parameters, which all skeletons of a base can share."""
    for module in quantised_modules(model).values():
        yield from (module.quant_state,) if _is_4bit(module) else (module.state.CB, module.state.SCB)


def held_tensors(module: nn.Module) -> list[Tensor]:
    """Return the tensors of which a layer's weight is made: its codes, then its scales."""
    held: Any = module
    if not _is_4bit(module):
        return [held.weight.data, held.state.SCB]
    scales = held.weight.quant_state
    nested = [scales.offset, scales.state2.absmax, scales.state2.code] if scales.nested else []
    return [held.weight.data, scales.absmax, scales.code, *nested]


def held_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters, buffers and scales; those of a tensor that several share once."""
    layers = [tensor for module in quantised_modules(model).values() for tensor in held_tensors(module)]
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), *layers)}
    return sum(tensors.values())


def count_numbers(model: nn.Module) -> tuple[int, int]:
    """Return how many numbers the parameters of a model stand for, and how many of these are quantised."""
    quantised = {id(module.weight): module for module in quantised_modules(model).values()}
    counts = [
        (quantised[id(p)].in_features * quantised[id(p)].out_features, True)
        if id(p) in quantised
        else (p.numel(), False)
        for p in model.parameters()
    ]
    return sum(count for count, _ in counts), sum(count for count, held in counts if held)


@torch.no_grad()
def as_numbers(module: nn.Module) -> nn.Linear | Conv1D:
    """Return a layer in float32 with the weight that a quantised one computes with, of the kind that it was before."""
    held: Any = module
    shape = held.in_features, held.out_features
    weight = _weight(held).float().reshape(*reversed(shape))
    is_turned = held.source_cls is Conv1D  # Its weight is (k, d).
    plain = Conv1D(*reversed(shape)) if is_turned else nn.Linear(*shape, bias=held.bias is not None)  # type: ignore[no-untyped-call]
    plain.weight = nn.Parameter(weight.t().contiguous() if isinstance(plain, Conv1D) else weight, requires_grad=False)
    if held.bias is not None:
        plain.bias = nn.Parameter(held.bias.float(), requires_grad=False)
    return plain


def forget_quantisation(model: Any) -> None:
    """Let Transformers save a model, none of whose layers is quantised any more, as one that never was."""
    model.hf_quantizer.remove_quantization_config(model)
    model._weight_conversions = [
        conversion
        for conversion in model._weight_conversions
        if not any("bitsandbytes" in type(step).__module__ for step in getattr(conversion, "operations", ()))
    ]


def _weight(held: Any) -> Tensor:
    library: Any = import_module("bitsandbytes.functional")
    if not _is_4bit(held):
        weight: Tensor = library.int8_vectorwise_dequant(held.weight.data, held.state.SCB)
        return weight
    scales = copy.copy(held.weight.quant_state)
    scales.shape = torch.Size((1, scales.shape.numel()))  # In one row, no block is cut: see `cuts_blocks`.
    row: Tensor = library.dequantize_4bit(held.weight.data, scales)
    return row


def cuts_blocks(inputs: int, device: str) -> bool:
    """Return whether bitsandbytes 0.50 takes the wrong scales for 4-bit rows of so many inputs.

    Its kernels for the CPU begin a block at each row, and what quantised the weight did not.
    """
    return device == "cpu" and inputs % BLOCK != 0


def _is_4bit(module: nn.Module) -> bool:
    return hasattr(module, "quant_state")
