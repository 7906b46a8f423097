"""Random streams keyed by words, so that a draw depends only on its purpose, never on earlier draws."""

import hashlib
import json

import numpy as np


def rng(*key: str | int) -> np.random.Generator:
    """Return a NumPy generator (Philox, the same on every machine) for this key, e.g. (seed, node name, round)."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
