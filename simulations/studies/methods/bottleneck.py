"""Adapter layers: a bottleneck after sublayers, with a skip connection (Houlsby et al. 2019, Lin et al. 2020,
Pfeiffer et al. 2021, Rücklé et al. 2021), as arXiv 2106.09685, section 5.1, compares them; and Compacter's factors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from client.model.base_model import BaseModel
from client.model.lora import Lane
from common.adapters.adapter import Shapes
from common.settings.recipe import LoraSettings
from simulations.studies.methods.attached import own_parameters
from simulations.studies.methods.kronecker import Kronecker, SharedRule
from simulations.studies.methods.places import layers, projections

Placement = Literal["H", "L", "P", "D"]


@dataclass(frozen=True)
class Bottleneck:
    """Adapters of width r, whose up-projection starts at zero, so that they begin as the identity.

    Args:
        rank: r, their width.
        placement: `H`, after attention and after the feed-forward network, with the layer norms of the layers; `L`,
            after each layer, with a layer norm of its own; `P`, after the feed-forward network; `D`, as `P` in the
            upper half of the layers.
        kronecker: n of Compacter's sums of n Kronecker products in place of both matrices (Karimi Mahabadi et al.
            2021, eq. 5); 0 for plain matrices.
    """

    rank: int
    placement: Placement = "H"
    kronecker: int = 0

    def targets(self, base: BaseModel) -> tuple[str, ...]:
        """Return nothing: it has no A and B."""
        return ()

    def put(
        self, base: BaseModel, shapes: Shapes, settings: LoraSettings, seed: int
    ) -> tuple[Sequence[nn.Parameter], Lane]:
        """Add adapters behind its places.

        Raises:
            ModelError: its layers, or their projections, are not found.
        """
        d, generator = base.model.config.get_text_config().hidden_size, torch.Generator().manual_seed(seed)
        shared = SharedRule(self.kronecker, generator).to(base.device) if self.kronecker else None
        modules, own = dict(base.model.named_modules()), list(shared.parameters() if shared else ())
        for place in self._places(base):
            added = _Adapter(d, self.rank, self.placement == "L", shared, generator).to(base.device)
            modules[place].register_forward_hook(added.after)
            own += added.parameters()
        if self.placement == "H":
            own += _layer_norms(modules, layers(base))
        return own, Lane()

    def _places(self, base: BaseModel) -> tuple[str, ...]:
        if self.placement == "L":
            return tuple(layers(base))
        behind = projections(base, "feed-forward")
        if self.placement == "D":
            return behind[len(behind) // 2 :]
        return (*projections(base, "output"), *behind) if self.placement == "H" else behind


class _Adapter(nn.Module):
    """x + up(gelu(down(x))), behind a layer norm if it has one."""

    def __init__(self, d: int, rank: int, norm: bool, shared: SharedRule | None, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d) if norm else None
        if shared is None:
            self.down, self.up = nn.Linear(d, rank), nn.Linear(rank, d)
            nn.init.normal_(self.down.weight, std=d**-0.5, generator=generator)
            nn.init.zeros_(self.down.bias)
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)
        else:
            self.down = Kronecker(d, rank, shared, generator)  # type: ignore[assignment]
            self.up = Kronecker(rank, d, shared, None)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        low = F.gelu(self.down(x if self.norm is None else self.norm(x)))
        changed: Tensor = x + self.up(low).to(x.dtype)
        return changed

    def after(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Return the output of a module, the first of several, with the adapter behind it."""
        return (self(output[0]), *output[1:]) if isinstance(output, tuple) else self(output)


def _layer_norms(modules: Mapping[str, nn.Module], places: Mapping[str, nn.Module]) -> Iterator[nn.Parameter]:
    for name, module in modules.items():
        if any(name.startswith(f"{place}.") for place in places) and "norm" in type(module).__name__.lower():
            yield from own_parameters(module, ("weight", "bias"))
