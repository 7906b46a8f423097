"""Rounds of one algorithm without a model: clients send noise through the codec, and a dense float64 oracle follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.codec import DecodeLimits
from common.adapters.gradient import compress
from common.protocol.assignment import Assignment, RankPattern, Update
from common.protocol.messages import pack_gradient, pack_update, reply_form, unpack_update
from common.seeding import rng
from common.settings.recipe import LoraSettings, Server, Train
from server.algorithms import Algorithm, AlgorithmSettings, WeightedUpdate, create_algorithm
from server.algorithms.state import State
from tests.helpers.common.buffers import data_of, header_of, sealed
from tests.helpers.server.exchange import dense

MIXED = (1, 2, 4, 8, 16, 64)
"""Ranks of one cohort."""
SHAPES = {"square": (64, 64), "tall": (70, 20), "tiny": (4, 4), "wide": (20, 70)}
"""One of d = k = r for the largest rank, one for a small rank, and two that aren't square."""


@dataclass(frozen=True)
class Sent:
    """An update as it was sent: a buffer in float32."""

    rank: int
    share: float
    assignment: Assignment
    blob: bytes

    @property
    def modules(self) -> Adapter:
        return unpack_update(self.blob, self.assignment, DecodeLimits())

    @property
    def weighted(self) -> WeightedUpdate:
        return WeightedUpdate(self.share, self.rank, self.modules, self.assignment.start)


def make(algorithm: str = "increments", ranks: Sequence[int] = MIXED, **options: Any) -> Algorithm:
    """Make an algorithm; options are those of [server], `alpha`, `seed`, `head`, and `train`, which is [train]."""
    lora, seed = LoraSettings(alpha=options.pop("alpha", "rank")), options.pop("seed", 0)
    head = frozenset(options.pop("head", ()))
    train = options.pop("train", Train(rounds=10))
    if algorithm == "fedlin":
        options = {"mode": "b"} | options
    return create_algorithm(AlgorithmSettings(seed, tuple(ranks), lora, Server(algorithm, **options), head, train))


def send(algorithm: Algorithm, state: State, ranks: Sequence[int], shares: Sequence[float] = ()) -> list[Sent]:
    """Return the updates that clients of these ranks send in the next round; equal shares by default."""
    shares = shares or [1 / len(ranks)] * len(ranks)
    return [_send(algorithm, state, rank, share, i) for i, (rank, share) in enumerate(zip(ranks, shares, strict=True))]


def _send(algorithm: Algorithm, state: State, rank: int, share: float, number: int) -> Sent:
    assignment = algorithm.assign(state, str(number), RankPattern(rank))
    if assignment.returns == "compressed-gradient":
        keyed = {side: (f, rng(state.round, number, side)) for side, f in reply_form(assignment).items()}
        drawn = {side: compress(random.standard_normal(f.shape), rank) for side, (f, random) in keyed.items()}
        return Sent(rank, share, assignment, pack_gradient(Adapter(drawn)))
    modules = {name: _noisy(f, assignment, (state.round, number, name)) for name, f in assignment.start.items()}
    return Sent(rank, share, assignment, pack_update(Update(Adapter(modules), 1, 1, 0.5), assignment.trains))


def _noisy(start: Factors, assignment: Assignment, key: tuple[object, ...]) -> Factors:
    """Factors as far from their start as a client of this rank and scale may go."""
    noise = rng(*key)
    b = start.b + assignment.scaling * noise.standard_normal(start.b.shape)
    a = start.a + 0.3 * noise.standard_normal(start.a.shape) * (assignment.trains == "both")
    return Factors(a, b)


def reduce(algorithm: Algorithm, state: State, sent: Sequence[Sent]) -> State:
    """Return the state after a round in which these updates arrived."""
    return algorithm.reduce(state, [update.weighted for update in sent])


def flipped(update: Sent, position: int) -> Sent:
    """Return the update with the sign of one number changed, under a checksum that fits."""
    data = bytearray(data_of(update.blob))
    data[4 * position + 3] ^= 0x80
    return replace(update, blob=sealed(header_of(update.blob), bytes(data)))


def delta(sent: Sequence[Sent], name: str) -> Array:
    """Sum of p_i (dW_i - where it started) for one module, from the buffers."""
    return np.sum([u.share * (dense(u.modules[name]) - dense(u.assignment.start[name])) for u in sent], axis=0)


def distance(left: Mapping[str, Array], right: Mapping[str, Array]) -> float:
    """Frobenius norm of the difference over all modules."""
    return float(np.sqrt(sum(np.sum((left[name] - right[name]) ** 2) for name in right)))


def size(matrices: Mapping[str, Array]) -> float:
    """Frobenius norm over all modules."""
    return float(np.sqrt(sum(np.sum(matrix**2) for matrix in matrices.values())))


def product(adapter: Mapping[str, Factors]) -> dict[str, Array]:
    """dW by module."""
    return {name: dense(factors) for name, factors in adapter.items()}


def dense_aggregation_error(algorithm: Algorithm, before: State, after: State, sent: Sequence[Sent]) -> float:
    """||(S_t + lost - S_{t-1}) - Delta|| / ||Delta|| from dense matrices."""
    old, new = product(algorithm.total_update(before)), product(algorithm.total_update(after))
    lost, truth = product(algorithm.dropped_update(after)), {name: delta(sent, name) for name in old}
    moved = {name: new[name] + lost.get(name, 0.0) - old[name] for name in old}
    return distance(moved, truth) / size(truth)
