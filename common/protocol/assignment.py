"""Values that travel: an Assignment goes to a client, an Update comes back.

Every federated LoRA rule is a choice of what to freeze, where to start and what to train; the client never learns which
rule it serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from common.adapters.adapter import Adapter

Trains = Literal["both", "b", "a"]


@dataclass(frozen=True)
class Assignment:
    """y = W0 x + frozen.b (frozen.a x) + scaling * B (A x), with A, B trained from `start`.

    Args:
        frozen: added to the base, never trained; may lack modules.
        start: initial factors, one pair for each module to train; its scale is folded into b.
        trains: which of the two factors the client trains.
        scaling: s = alpha / r, which the client applies to the B it trains.
    """

    frozen: Adapter
    start: Adapter
    trains: Trains = "both"
    scaling: float = 1.0


@dataclass(frozen=True)
class Training:
    """Settings of training, the same for every client of a round.

    Args:
        learning_rates: one for each optimizer step.
        batch: rows of one forward pass.
        accumulate: forward passes for each optimizer step.
        clip: largest norm of the gradient; 0 switches clipping off.
        dropout: share of a target's inputs that its A does not see.
        checkpointing: recompute activations in the backward pass to save memory.
        seed: with the node's name and the round it keys every random stream.
    """

    learning_rates: tuple[float, ...]
    batch: int
    accumulate: int = 1
    clip: float = 1.0
    dropout: float = 0.0
    checkpointing: bool = False
    seed: int = 0
    round: int = 1

    def to_values(self) -> dict[str, Any]:
        """Return plain values for a message."""
        return dict(vars(self)) | {"learning_rates": list(self.learning_rates)}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_values`; other values are ignored.

        Raises:
            KeyError: a value is missing.
        """
        plain = {field.name: values[field.name] for field in fields(cls)}
        return cls(**plain | {"learning_rates": tuple(plain["learning_rates"])})


@dataclass(frozen=True)
class Update:
    """A client's result: factors with the scale folded into b, and counts of what they were trained on.

    Args:
        adapter: (s * B, A) for every module of the assignment's `start`.
        examples: rows used, with repetition.
        tokens: tokens that carried loss (rows, for classification), with repetition.
        loss: mean training loss over the steps.
    """

    adapter: Adapter
    examples: int
    tokens: int
    loss: float
