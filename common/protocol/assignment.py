"""Values that travel: an Assignment goes to a client, an Update comes back.

Every federated LoRA rule is a choice of what to freeze, where to start, what to train and which terms to add to its
gradient; the client never learns which rule it serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from common.adapters.adapter import Adapter, Shapes
from common.adapters.rounding import Wire
from common.protocol.values import Natural, Rule, Values, Whole

Trains = Literal["both", "b", "a"]
Returns = Literal["update", "gradient", "compressed-gradient"]


@dataclass(frozen=True)
class RankPattern:
    """The rank of each target module: `rank`, except where `modules` names another (PEFT's `rank_pattern`)."""

    rank: int
    modules: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def fitting(cls, rank: int, shapes: Shapes) -> "RankPattern":
        """Return a pattern of one rank, lower in modules whose (d, k) is too small for it."""
        return cls(rank, {name: min(d, k) for name, (d, k) in shapes.items() if min(d, k) < rank})

    def __getitem__(self, name: str) -> int:
        return self.modules.get(name, self.rank)


@dataclass(frozen=True)
class Term:
    """A term of the client's gradient, applied by client/training/terms.py.

    Args:
        name: of the term.
        numbers: its settings.
        adapter: factors that it needs, of the shapes and ranks of the assignment's `start`; may lack modules.
    """

    name: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    adapter: Adapter = field(default_factory=Adapter)


@dataclass(frozen=True)
class Assignment:
    """y = W0 x + frozen.b (frozen.a x) + scaling * B (A x), with A, B trained from `start`.

    Args:
        frozen: added to the base, never trained; may lack modules.
        start: initial factors, one pair for each module to train; its scale is folded into b.
        trains: which of the two factors the client trains.
        scaling: s = alpha / r, which the client applies to the B it trains.
        terms: added to each gradient before it is clipped; no two of one name.
        returns: the trained factors; or the mean gradient at `start` in their place, of as many batches as a training
            would see; or that of the rows of an exchange, compressed (`common.adapters.gradient`). A gradient of b is
            that of the b that holds the scale.
        reply_rank: rank of a compressed gradient.
        wire: what holds the numbers of `start` and `terms` without loss, and to which those of the reply are rounded.
    """

    frozen: Adapter
    start: Adapter
    trains: Trains = "both"
    scaling: float = 1.0
    terms: tuple[Term, ...] = ()
    returns: Returns = "update"
    reply_rank: int = 0
    wire: Wire = "float32"

    @property
    def sent_rank(self) -> int:
        """Rank of what the reply holds."""
        return self.reply_rank if self.returns == "compressed-gradient" else self.start.rank


@dataclass(frozen=True)
class CountedReply(Values):
    """The last reply of a node that the server counted, as it names it in the next request for a gradient.

    Args:
        counted_round: its round; 0 if there is none.
        counted_update: SHA-256 of its factors; empty if there is none.
        counted_clip: the factor by which the server scaled it.
    """

    counted_round: Annotated[int, Rule(int, low=0, optional=True)] = 0
    counted_update: Annotated[str, Rule(str, optional=True)] = ""
    counted_clip: Annotated[float, Rule(float, low=0, high=1, optional=True)] = 1.0


@dataclass(frozen=True)
class Training(Values):
    """Settings of training, the same for every client of a round.

    Args:
        learning_rates: one for each optimizer step.
        batch: rows of one forward pass.
        accumulate: forward passes for each optimizer step.
        clip: largest norm of the gradient; 0 switches clipping off.
        dropout: share of a target's inputs that its A does not see.
        checkpointing: recompute activations in the backward pass to save memory.
        seed: with the node's name, the round and the phase it keys every random stream.
        round: counted from 1.
        phase: counted from 1 within the round.
        draw: rows of a step where that differs between nodes, in passes of at most `batch`; 0 for batch * accumulate.
        begin: rows of the node's epochs that earlier exchanges have read; for a compressed gradient.
    """

    learning_rates: Annotated[tuple[float, ...], Rule(list, items=float)]
    batch: Natural
    accumulate: Natural = 1
    clip: Annotated[float, Rule(float, low=0)] = 1.0
    dropout: Annotated[float, Rule(float, low=0, high=1)] = 0.0
    checkpointing: Annotated[bool, Rule(bool)] = False
    seed: Whole = 0
    round: Whole = 1
    phase: Natural = 1
    draw: Annotated[int, Rule(int, low=0, optional=True)] = 0
    begin: Annotated[int, Rule(int, low=0, optional=True)] = 0

    @property
    def rows(self) -> int:
        """Most rows that these steps read; batches may be smaller."""
        return len(self.learning_rates) * (self.draw or self.batch * self.accumulate)

    def stream_key(self, name: str) -> tuple[int | str, ...]:
        """Return the key of a node's random streams; that of a first phase is the key of the round alone."""
        return (self.seed, name, self.round, *([self.phase] if self.phase > 1 else []))


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
