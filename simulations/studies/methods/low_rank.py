"""LoRA, on the product's own adapters (arXiv 2106.09685, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from client.model.base_model import BaseModel
from client.model.lora import Branch, Lane
from common.adapters.adapter import Shapes
from common.seeding import rng
from common.settings.recipe import LoraSettings
from simulations.studies.methods.places import fused_projections, projections


@dataclass(frozen=True)
class LowRank:
    """A and B of a rank on the projections of these roles: A Gaussian of variance 1 / k, B zero.

    Where the base has query, key and value in one (3 d, d), that is adapted, with 4 d r parameters as Wq and Wv have.
    """

    rank: int
    roles: tuple[str, ...] = ("query", "value")

    def targets(self, base: BaseModel) -> tuple[str, ...]:
        """Return the projections of its roles."""
        if self.roles == ("query", "value") and (fused := fused_projections(base)):
            return tuple(sorted(fused))
        return tuple(sorted(name for role in self.roles for name in projections(base, role)))

    def put(
        self, base: BaseModel, shapes: Shapes, settings: LoraSettings, seed: int
    ) -> tuple[Sequence[nn.Parameter], Lane]:
        """Make new adapters of its targets."""
        scaling = settings.scaling(self.rank)
        pairs = {name: _start(shapes[name], self.rank, base.device, seed, name) for name in self.targets(base)}
        lane = Lane({name: Branch(a, b, scaling) for name, (a, b) in pairs.items()})
        return [each for pair in pairs.values() for each in pair], lane


def _start(
    shape: tuple[int, int], rank: int, device: torch.device, seed: int, name: str
) -> tuple[nn.Parameter, nn.Parameter]:
    (d, k), r = shape, min(rank, *shape)
    draws = rng(seed, "a", name).standard_normal((r, k), dtype=np.float32) / np.float32(np.sqrt(k))
    return nn.Parameter(torch.tensor(draws, device=device)), nn.Parameter(torch.zeros(d, r, device=device))
