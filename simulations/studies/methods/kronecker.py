"""Compacter's linear layers: sums of Kronecker products (Karimi Mahabadi et al. 2021, arXiv 2106.04647, eq. 5)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import ModelError


class SharedRule(nn.Module):
    """The n matrices (n, n) that all layers share."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        super().__init__()
        self.rule = nn.Parameter(torch.randn(n, n, n, generator=generator) / n**0.5)


class Kronecker(nn.Module):
    """y = (sum_i R_i (x) s_i t_i^T) x + bias, with the shared R_i (n, n), s_i (d / n, 1) and t_i (k / n, 1).

    Args:
        k: inputs.
        d: outputs.
        shared: the R_i.
        generator: draws s; without one it is zero, and so is the product.

    Raises:
        ModelError: n does not divide k and d.
    """

    def __init__(self, k: int, d: int, shared: SharedRule, generator: torch.Generator | None) -> None:
        super().__init__()
        n = len(shared.rule)
        if k % n or d % n:
            raise ModelError(f"Compacter's n = {n} does not divide {k} and {d}; set another width of the bottleneck")
        self.shared = [shared]  # In a list, so that its parameters are not counted once more.
        start = torch.zeros(n, d // n) if generator is None else torch.randn(n, d // n, generator=generator) / n**0.5
        spread = torch.Generator().manual_seed(n * k + d) if generator is None else generator
        self.s, self.t = nn.Parameter(start), nn.Parameter(torch.randn(n, k // n, generator=spread) * (n / k) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., d) for x (..., k)."""
        return F.linear(x, self.weight().to(x.dtype), self.bias.to(x.dtype))

    def weight(self) -> Tensor:
        """Return the matrix (d, k)."""
        products = (
            torch.kron(r, torch.outer(s, t)) for r, s, t in zip(self.shared[0].rule, self.s, self.t, strict=True)
        )
        return torch.stack(list(products)).sum(0)
