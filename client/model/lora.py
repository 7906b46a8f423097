"""Low-rank adapters on a frozen model: attached once, K of them in one forward pass; merged and unmerged.

    y = W0 x  +  U (V x)  +  s B (A x)               arXiv 2106.09685, eq. 3, with a frozen branch U V beside it

A forward hook adds the low-rank terms, so the model's modules, names and tensors stay as they are. The rows of a batch
belong to K lanes in order; each lane has its own factors.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from common.adapters.adapter import Adapter, Factors
from common.errors import ModelError


@dataclass(frozen=True)
class Branch:
    """A pair of factors that adds scaling * b (a x) to a module's output, with a (r, k) and b (d, r)."""

    a: Tensor
    b: Tensor
    scaling: float = 1.0


@dataclass(frozen=True)
class Dropout:
    """Dropout on the inputs of A in one training step; the mask depends on the key, so a recomputation repeats it."""

    rate: float
    key: int

    def __call__(self, x: Tensor, stream: int) -> Tensor:
        """Zero a share `rate` of the entries of `x`, and scale the others by 1 / (1 - rate)."""
        generator = torch.Generator(x.device).manual_seed((self.key * 1_000_003 + stream) % 2**63)
        kept = torch.empty(x.shape, device=x.device).bernoulli_(1 - self.rate, generator=generator)
        return x * (kept / (1 - self.rate)).to(x.dtype)


@dataclass(frozen=True)
class Lane:
    """One adapter of a pass: its branches by module name, and the dropout of its inputs."""

    trained: Mapping[str, Branch] = field(default_factory=dict)
    frozen: Mapping[str, Branch] = field(default_factory=dict)
    dropout: Dropout | None = None


class Lora:
    """Adapters on one frozen model. The next pass adds `lanes`; each gets an equal share of the rows, or its `rows`."""

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        """Attach to the modules of these names, and freeze the whole model.

        Raises:
            ModelError: a name is not a module that can be adapted.
        """
        model.requires_grad_(False)
        self.model = model
        self._originals: Mapping[str, nn.Parameter] = {}
        self.lanes: Sequence[Lane] = ()
        self.rows: Sequence[int] = ()
        modules = dict(model.named_modules())
        self.shapes = {name: module_shape(name, modules.get(name)) for name in sorted(names)}
        self._handles = [
            modules[name].register_forward_hook(partial(self._add, name, stream))
            for stream, name in enumerate(self.shapes)
        ]

    def detach(self) -> None:
        """Remove the hooks, which leaves the model unchanged."""
        for handle in self._handles:
            handle.remove()

    def merge(self, adapter: Adapter) -> None:
        """Add B A to the weights, in place of an adapter that is merged already: W0 is kept, no base is loaded again.

        Lanes still add their own; those of the merged adapter are to be taken out. Where the adapter is refused, what
        was merged stays; any other error, as of memory, of float16 or by a signal, leaves W0.

        Raises:
            ModelError: as `merge` does.
        """
        buffers = _weights(self.model, self._originals)
        check_mergeable(self.model, adapter)
        self.unmerge()
        merged = _merged_weights(self.model, adapter, buffers)
        self._originals = _weights(self.model, merged)
        _replace_weights(self.model, merged)

    def unmerge(self) -> None:
        """Restore W0, bit for bit; without a merged adapter, do nothing."""
        unmerge(self.model, self._originals)
        self._originals = {}

    def _add(self, name: str, stream: int, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if not any(name in lane.frozen or name in lane.trained for lane in self.lanes):
            return output
        if not (inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)):
            got = f"{type(output).__name__} for {len(inputs)} inputs"
            raise ModelError(
                f"target {name}, a {type(module).__name__}, returns {got}, not a tensor for a tensor, so it cannot be "
                "adapted; leave it out of [lora] targets"
            )
        if len(self.lanes) == 1:
            return _add_lane(self.lanes[0], name, stream, module, inputs[0], output)
        counts = self.rows or [1] * len(self.lanes)
        parts = zip(self.lanes, _shares(inputs[0], counts), _shares(output, counts), strict=True)
        return torch.cat([_add_lane(lane, name, stream, module, x, y) for lane, x, y in parts])


def _shares(rows: Tensor, counts: Sequence[int]) -> tuple[Tensor, ...]:
    if len(rows) == 1:  # Positions, which all rows share.
        rows = rows.expand(sum(counts), *rows.shape[1:])
    each, over = divmod(rows.shape[0], sum(counts))
    if over:
        raise ValueError(f"{rows.shape[0]} rows cannot be shared among {len(counts)} adapters")
    return torch.split(rows, [each * count for count in counts])


def _add_lane(lane: Lane, name: str, stream: int, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    if name in lane.frozen:
        y = _add_branch(lane.frozen[name], module, x, y)
    if name in lane.trained and len(lane.trained[name].a):  # At rank 0 a pass would add zeros, at the price of a mask.
        dropped = lane.dropout and lane.dropout.rate and not isinstance(module, nn.Embedding)
        y = _add_branch(lane.trained[name], module, lane.dropout(x, stream) if dropped and lane.dropout else x, y)
    return y


def _add_branch(branch: Branch, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    if isinstance(module, nn.Embedding):
        low = F.embedding(x, branch.a.t(), module.padding_idx) * getattr(module, "embed_scale", 1.0)
    else:
        low = F.linear(x if torch.is_autocast_enabled(x.device.type) else x.to(branch.a.dtype), branch.a)
    if branch.scaling != 1:
        low = low * branch.scaling
    return y + F.linear(low, branch.b).to(y.dtype)


def module_shape(name: str, module: nn.Module | None) -> tuple[int, int]:
    """Return (d, k), the shape of the matrix in a module of this name.

    Raises:
        ModelError: it is not a Linear, Conv1D or Embedding.
    """
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if isinstance(module, Conv1D):
        return module.nf, module.nx
    if isinstance(module, nn.Embedding):
        return module.embedding_dim, module.num_embeddings
    found = "is not in the model" if module is None else f"is a {type(module).__name__}"
    raise ModelError(f"target {name} {found}; adapters fit Linear, Conv1D and Embedding modules")


def adaptable_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return (d, k) of each module of a model that can be adapted, by name."""
    kinds = nn.Linear | Conv1D | nn.Embedding
    return {name: module_shape(name, each) for name, each in model.named_modules() if isinstance(each, kinds)}


def branch(factors: Factors, device: torch.device | str = "cpu") -> Branch:
    """Make a frozen branch of these factors in float32; their scale is folded into b."""
    return Branch(_tensor(factors.a, device), _tensor(factors.b, device))


def frozen_lane(adapter: Adapter, device: torch.device | str = "cpu") -> Lane:
    """Make a lane that only adds this adapter."""
    return Lane(frozen=branches(adapter, device))


def branches(adapter: Adapter, device: torch.device | str = "cpu") -> dict[str, Branch]:
    """Make a branch of each module's factors, but for those of rank 0."""
    return {name: branch(factors, device) for name, factors in adapter.items() if factors.rank}


def _tensor(array: Any, device: torch.device | str) -> Tensor:
    # A copy: received arrays are read-only views of a message, and PyTorch has no read-only tensors.
    return torch.tensor(array.astype("f4"), device=device)


def merge(model: nn.Module, adapter: Adapter) -> dict[str, nn.Parameter]:
    """Add B A to the weights of the model and return the original parameters for `unmerge`.

    The original tensors are kept rather than subtracted from: (W + B A) - B A does not restore bits. An error changes
    nothing.

    Raises:
        ModelError: a target is missing, has another shape, is quantised, or shares its tensor with another module; or a
            sum is too large for float16.
    """
    check_mergeable(model, adapter)
    merged = _merged_weights(model, adapter, {})
    originals = _weights(model, merged)
    _replace_weights(model, merged)
    return originals


def unmerge(model: nn.Module, originals: Mapping[str, nn.Parameter]) -> None:
    """Put the original parameters back, bit for bit."""
    _replace_weights(model, originals)


def _weights(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    return {name: model.get_parameter(f"{name}.weight") for name in names}


def _replace_weights(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
    for name, parameter in weights.items():
        model.get_submodule(name).weight = parameter


@torch.no_grad()
def _merged_weights(model: nn.Module, adapter: Adapter, buffers: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return W0 + B A of each module, all before any is put in its place; in the buffers of those that have one."""
    merged = {}
    for name, factors in adapter.items():
        module = model.get_submodule(name)
        merged[name] = buffers[name] if name in buffers else _empty_like(module.weight)
        _merge_into(merged[name], name, module, factors)
    return merged


def _empty_like(weight: Any) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(weight), requires_grad=False)


def _merge_into(merged: Tensor, name: str, module: nn.Module, factors: Factors) -> None:
    weight: Tensor = module.weight  # type: ignore[assignment]
    added = branch(factors, weight.device)
    left, right = (added.b, added.a) if isinstance(module, nn.Linear) else (added.a.t(), added.b.t())
    if weight.dtype == torch.float32:
        torch.addmm(weight, left, right, out=merged)
        return
    merged.copy_(torch.addmm(weight.float(), left, right))
    if weight.dtype == torch.float16 and not merged.isfinite().all():
        raise ModelError(f"{name}: W0 + B A is too large for float16; load the base in bfloat16 or float32")


def check_mergeable(model: nn.Module, adapter: Adapter) -> None:
    """Check that an adapter can be merged, in place of another one too.

    Raises:
        ModelError: it cannot, as `merge` says.
    """
    modules, holders = dict(model.named_modules()), dict[int, list[str]]()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        holders.setdefault(id(parameter), []).append(name)
    for name, factors in adapter.items():
        _check_shape(name, factors, modules)
        if tied := [each for each in holders[id(modules[name].weight)] if each != f"{name}.weight"]:
            raise ModelError(
                f"{name}.weight is tied to {tied[0]}, which a merge would change too; export an adapter instead"
            )


def _check_shape(name: str, factors: Factors, modules: Mapping[str, nn.Module]) -> None:
    if module_shape(name, modules.get(name)) != factors.shape:
        raise ModelError(
            f"{name}: the adapter has shape {factors.shape}, the model {module_shape(name, modules[name])}"
        )
    weight: Tensor = modules[name].weight  # type: ignore[assignment]
    if not weight.is_floating_point():
        raise ModelError(f"{name} is stored as {weight.dtype}; load the base in float32 or bfloat16 to merge")
