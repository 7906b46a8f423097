"""A network of one module of each kind that can be adapted, and trainable lanes for it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from client.model.lora import Branch, Dropout, Lane, branch
from tests.helpers.common.models import random_factors

SHAPES = {"embedding": (6, 11), "linear": (5, 6), "conv": (7, 5)}


class Toy(nn.Module):
    """Word numbers (n, t) -> (n, t, 7); no matrix is square, so that a transposed one cannot pass."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=0)
        self.linear = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.conv = Conv1D(7, 5)

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = self.conv(self.norm(torch.tanh(self.linear(self.embedding(words)))))
        return out


def toy(seed: int = 0) -> Toy:
    """Make a network with weights of order one."""
    generator = torch.Generator().manual_seed(seed)
    network = Toy()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


def words(rows: int, seed: int = 0) -> Tensor:
    """Word numbers (rows, 4), padding among them."""
    return torch.randint(0, 11, (rows, 4), generator=torch.Generator().manual_seed(seed))


def branches(seed: int, rank: int, scaling: float = 1.0, trained: bool = True) -> dict[str, Branch]:
    """Random branches for every module of the network."""
    rng = np.random.default_rng(seed)
    plain = {name: branch(random_factors(rng, shape, rank)) for name, shape in SHAPES.items()}
    for each in plain.values():
        each.a.requires_grad_(trained)
        each.b.requires_grad_(trained)
    return {name: Branch(each.a, each.b, scaling) for name, each in plain.items()}


def lane(seed: int, rank: int, scaling: float = 1.0, dropout: Dropout | None = None) -> Lane:
    """Make a trained lane over a frozen one of rank 2."""
    return Lane(branches(seed, rank, scaling), branches(seed + 1000, 2, trained=False), dropout)


def gradients(lanes: Sequence[Lane]) -> list[Tensor]:
    """Return the gradients of all trained factors, and clear them."""
    factors = [f for each in lanes for b in each.trained.values() for f in (b.a, b.b)]
    found = [torch.zeros_like(f) if f.grad is None else f.grad for f in factors]
    for factor in factors:
        factor.grad = None
    return found
