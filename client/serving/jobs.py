"""What is asked of the model, a text at a time, and what comes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from client.model.lora import Lane


@dataclass(frozen=True)
class Piece:
    """The next part of a text, which may be empty, and the number of tokens written so far."""

    text: str
    written: int


@dataclass(frozen=True)
class Ended:
    """The end of a text: at an end of text or a stop string, or as long as it may be."""

    reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Classified:
    """The probability of each label, in their order; or the number that each output gives."""

    answers: tuple[float, ...]


@dataclass(frozen=True)
class Failed:
    """The text cannot be computed; the reason is for the one who asked."""

    reason: str


Event = Piece | Ended | Classified | Failed
"""All but `Piece` are the last of a job."""


@dataclass(frozen=True)
class Sampling:
    """The choice of the next token: the likeliest at temperature 0, otherwise drawn from the nucleus (1904.09751)."""

    temperature: float
    top_p: float
    seed: int


GREEDY = Sampling(0.0, 1.0, 0)


@dataclass(eq=False)
class Job:
    """One text to classify or to continue.

    Args:
        ids: (t,), at least one.
        lane: the adapter over the base; the job holds it, whatever is removed meanwhile.
        tokens: most to write; 0 to classify.
        sampling: choice of each token.
        stops: strings that end the text, and are not part of it.
        deliver: called by the engine's thread with each event; raises nothing.
        cancelled: set by the one who asked: nothing more is computed.
    """

    ids: Sequence[int]
    lane: Lane
    tokens: int = 0
    sampling: Sampling = GREEDY
    stops: tuple[str, ...] = ()
    deliver: Callable[[Event], None] = field(default=lambda event: None, repr=False)
    cancelled: bool = False

    @property
    def longest(self) -> int:
        """Most tokens that it can come to, with those given."""
        return len(self.ids) + self.tokens
