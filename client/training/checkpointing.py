"""Activation checkpointing of the frozen base: less memory, more time."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from client.model.quantised import to_evaluation

_RANDOM_ROUTES = ("moe_token_dropout", "jitter_noise", "router_jitter_noise")
"""Attributes of modules with experts that route at random in training mode; their settings also shape evaluation."""


@contextmanager
def checkpoint_activations(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Compute activations again in the backward passes of the block, if wanted."""
    if not wanted:
        yield
        return
    model.train()  # Transformers checkpoints only in training mode; all dropout of the base is switched off at loading.
    for module in model.modules():
        if any(hasattr(module, name) for name in _RANDOM_ROUTES):
            module.eval()  # The layers around it are those that recompute.
    model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    try:
        yield
    finally:
        model.activation_checkpointing_disable()  # type: ignore[operator]
        to_evaluation(model)
