"""The hub's library goes online only for a command that needs the network."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants


@contextmanager
def online() -> Iterator[None]:
    """Let the hub's library use the network while the block runs: `fedlora` sets it offline for everything else."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
