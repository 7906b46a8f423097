"""A node's policy, checked before a base is loaded and before any step, and the list of values that may leave it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from typing import Any, get_args

from common.adapters.adapter import Adapter
from common.protocol.assignment import Assignment, Returns, Training, Trains
from common.protocol.messages import RejectionReason, RoundId
from common.settings.node import Policy

FLOAT32 = 4
"""Bytes of one trained number."""
WITH_STATE = 4
"""Numbers in memory for each trained one: itself, its gradient and the two moments of AdamW."""
_GRADIENT = "gradient"
"""The name among a policy's `terms` of a gradient in place of an update."""
WITH_MEMORY = 6
"""The same where gradients are compressed: itself, its gradient, two sums, what was not sent and what will not be."""

MOST_EPOCHS = 64
"""Times that one request may read all rows of a node; a run that draws by rows is far below."""

MAY_LEAVE: Mapping[str, Any] = {
    # the node's announcement
    "name": str,
    "rank": int,
    "rows": int,
    "predictions": int,
    "held": str,
    "held_ranks": list[int],
    "saves": bool,
    "unfinished": list[str],
    "skipped": int,
    "fingerprint": str,
    "problem_type": str,
    "parts": list[str],
    "part_values": list[str],
    "task": str,
    "modules": list[str],
    "d": list[int],
    "k": list[int],
    "embeddings": list[str],
    "head": list[str],
    "head_last": list[bool],
    "head_bias": list[bool],
    # the round id of the request, as the server wrote it
    "run": str,
    "round": int,
    "attempt": int,
    "phase": int,
    "parent": str,
    "base": str,
    # results of training and evaluation
    "examples": int,
    "tokens": int,
    "loss": float,
    "noise": float,
    "count": int,
    # for a head in closed form
    "left_out": int,
    "losses": list[float],
    # for ranks under a budget
    "energies": list[float],
    "parameters": int,
}
"""Name and type of each value that may leave a node besides factors, signatures and the word for an error."""


class DeclinedRequest(Exception):
    """A request that the node declines: a reason word for the server, and the full text for the node's owner."""

    def __init__(self, reason: RejectionReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class TrainingRequest:
    """A server's request for one phase of a round.

    Args:
        cohort: number of nodes that the server states, this one included.
        phases: number of phases of the round that it states.
    """

    round_id: RoundId
    assignment: Assignment
    training: Training
    cohort: int
    phases: int = 1


@dataclass(frozen=True)
class TrainingHistory:
    """The trainings that this process has begun for the node.

    Args:
        trainings: their number.
        seconds: since the last one began.
        last: round and phase of the last one.
    """

    trainings: int = 0
    seconds: float = inf
    last: RoundId | None = None

    def is_followed_by(self, round_id: RoundId) -> bool:
        """Return whether this is the next phase of the last training's round."""
        return self.last is not None and replace(self.last, phase=self.last.phase + 1) == round_id


def training_violation(policy: Policy, request: TrainingRequest, history: TrainingHistory) -> str | None:
    """Return the first limit that a request to train exceeds, with key, limit and requested value, or None."""
    return next(_violations(policy, request, history), None)


def gradient_violation(policy: Policy, returns: Any) -> str | None:
    """Return the limit that a request for a gradient of this kind exceeds, or None.

    `terms` named fedlin's gradient before there was `gradients`, and where it does this is still allowed.
    """
    named = policy.terms is not None and _GRADIENT in policy.terms
    if policy.terms is not None and not named:
        return f"[policy] terms = {list(policy.terms)}, requested is {_GRADIENT!r}"
    if policy.gradients or (named and returns == _GRADIENT):
        return None
    return (
        "[policy] gradients = false, requested is a gradient, which tells more of few rows than an update of many "
        "steps (docs/threat-model.md)"
    )


def sums_violation(policy: Policy) -> str | None:
    """Return the limit that a request for class sums exceeds, or None."""
    if policy.class_sums:
        return None
    return (
        "[policy] class_sums = false, requested are sums of features by class, which tell of the rows of a small class "
        "what they are (docs/threat-model.md)"
    )


def draw_violation(training: Training, rows: int) -> str | None:
    """Return what is wrong with a request to read the node's `rows` more than `MOST_EPOCHS` times, or None.

    Other limits are of batches, of which the size of a draw is free.
    """
    most = MOST_EPOCHS * max(rows, len(training.learning_rates) * training.batch * training.accumulate)
    return f"requested is to read {training.rows} rows, at most {most} are read" if training.rows > most else None


def rows_violation(policy: Policy, count: Callable[[], int]) -> str | None:
    """Return the limit that a request is below that would train on `count()` different rows, or None."""
    if policy.min_examples is None or (rows := count()) >= policy.min_examples:
        return None
    return f"[policy] min_examples = {policy.min_examples}, requested is a training on {rows} different rows"


def evaluation_violation(policy: Policy, round_id: RoundId, adapter: Adapter) -> str | None:
    """Return the first limit that a request to evaluate an adapter exceeds, or None."""
    size = FLOAT32 * sum(array.size for array in adapter.arrays().values())
    too_large = policy.max_bytes is not None and size > policy.max_bytes
    number = [f"[policy] max_bytes = {policy.max_bytes}, requested is {size}"] if too_large else []
    return next(chain(_beyond_model(policy, round_id, adapter), number), None)


def _violations(policy: Policy, request: TrainingRequest, history: TrainingHistory) -> Iterator[str]:
    yield from _beyond_model(policy, request.round_id, request.assignment.start)
    yield from _beyond_terms(policy, request.assignment)
    yield from _beyond_phases(policy, request.round_id, history)
    yield from _beyond_numbers(policy, request, history)


def _beyond_terms(policy: Policy, assignment: Assignment) -> Iterator[str]:
    if assignment.returns not in get_args(Returns) or assignment.trains not in get_args(Trains):
        yield f"requested is to train {assignment.trains!r} and to return {assignment.returns!r}, which is unknown"
    if assignment.returns != "update" and (text := gradient_violation(policy, assignment.returns)):
        yield text
    names = [term.name for term in assignment.terms]
    for name in names:
        if policy.terms is not None and name not in policy.terms:
            yield f"[policy] terms = {list(policy.terms)}, requested is {name!r}"
    if len(set(names)) < len(names):
        yield f"no term may be requested twice, requested are {names[:9]}"


def _beyond_phases(policy: Policy, round_id: RoundId, history: TrainingHistory) -> Iterator[str]:
    phase, phases = round_id.phase, policy.max_phases or 1
    if type(phase) is not int or phase < 1:
        yield f"requested is phase {phase!r}, and phases are counted from 1"
    if policy.max_rounds is not None and history.trainings >= policy.max_rounds * phases:
        limit = f"max_rounds = {policy.max_rounds}" + (f" times max_phases = {phases}" if phases > 1 else "")
        yield f"[policy] {limit}, requested is {history.trainings + 1}"


def _beyond_model(policy: Policy, round_id: RoundId, names: Iterable[str]) -> Iterator[str]:
    if policy.base is not None and round_id.base != policy.base:
        yield f"[policy] base = {policy.base!r}, requested is {round_id.base!r}"
    for name in names:
        if policy.targets is not None and not matches_any(name, policy.targets):
            yield f"[policy] targets = {list(policy.targets)}, requested is {name!r}"


def matches_any(name: str, targets: Sequence[str]) -> bool:
    """Return whether a module's name is one of the targets, or ends with one."""
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _beyond_numbers(policy: Policy, request: TrainingRequest, history: TrainingHistory) -> Iterator[str]:
    rates = request.training.learning_rates
    most: dict[str, Sequence[float]] = {
        "max_rank": [request.assignment.sent_rank],
        "max_steps": [len(rates)],
        "max_rounds": [request.round_id.round],
        "max_lr": rates,
        "max_phases": [request.phases, request.round_id.phase],
        "max_bytes": [needed_bytes(request.assignment)],
    }
    least: dict[str, Sequence[float]] = {
        "min_lr": rates,
        "min_cohort": [request.cohort],
        # Before the rows are read; how many different ones there are is counted when they are (`rows_violation`).
        "min_examples": [request.training.rows],
        "min_seconds": [] if history.is_followed_by(request.round_id) else [history.seconds],
    }
    for key, asked in (most | least).items():
        limit = getattr(policy, key)
        # Written so that NaN, for which <= and >= are both false, is beyond every limit.
        within = [limit is None or (number <= limit if key in most else number >= limit) for number in asked]
        if not all(within):
            yield f"[policy] {key} = {limit}, requested is {asked[within.index(False)]}"


def needed_bytes(assignment: Assignment) -> int:
    """Return the bytes of an assignment's factors, and of the gradients and state of the trained ones.

    A term holds an adapter of its own, or a copy of the factors that a training starts from.
    """
    lent = [assignment.frozen, *(term.adapter or assignment.start for term in assignment.terms)]
    count = sum(array.size for adapter in lent for array in adapter.arrays().values())
    trained = WITH_MEMORY if assignment.returns == "compressed-gradient" else WITH_STATE
    for factors in assignment.start.values():
        for side, array in (("a", factors.a), ("b", factors.b)):
            count += array.size * (trained if assignment.trains in ("both", side) else 1)
    return FLOAT32 * count


def outgoing_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a reply, after a check that each may leave.

    Raises:
        ValueError: one is not in `MAY_LEAVE`, or is of another type.
    """
    if other := [name for name, value in values.items() if name not in MAY_LEAVE or not _is(value, MAY_LEAVE[name])]:
        raise ValueError(f"{', '.join(other)} must not leave this node: not in MAY_LEAVE, or of another type")
    return dict(values)


def _is(value: object, kind: Any) -> bool:
    if items := get_args(kind):
        return isinstance(value, list) and all(type(item) is items[0] for item in value)
    return type(value) is kind
