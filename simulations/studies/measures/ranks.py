"""Ranks that are numbers between whole ones, of a spectrum of singular values."""

import numpy as np

from common.adapters.adapter import Array


def stable_rank(sigma: Array) -> float:
    """Return ||W||_F^2 / ||W||_2^2 of singular values (q,), largest first (Rudelson & Vershynin 2007); 0 if none."""
    return float((sigma**2).sum() / sigma[0] ** 2) if sigma.size and sigma[0] else 0.0


def effective_rank(sigma: Array) -> float:
    """Return exp(entropy of sigma / sum(sigma)) (Roy & Vetterli 2007, eq. 1); 0 without a positive singular value."""
    shares = sigma[sigma > 0] / sigma.sum() if sigma.size and sigma.sum() else np.zeros(0)
    return float(np.exp(-(shares * np.log(shares)).sum())) if shares.size else 0.0
