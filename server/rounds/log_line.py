"""The line of the log that commits a round, and what is kept beside it for `fedlora verify`."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.protocol.messages import RoundId
from server.algorithms.state import State
from server.algorithms.weighting import Limit
from server.heads.fitting import FittedHead
from server.heads.recorded import facts_of
from server.metrics.clients import ClientMetrics
from server.metrics.rounds import Exactness
from server.planning.plan import Plan
from server.rounds.participants import RunModel
from server.rounds.phases import Accepted


@dataclass(frozen=True)
class Outcome:
    """What a round ends with.

    Args:
        state: the next one.
        exact: exactness of its sum.
        accepted: the updates that count, of each phase.
        fitted: the head in closed form that was made, if any.
        plan: the ranks that round 0 begins with, where the run has a budget.
    """

    state: State
    exact: Exactness = field(default_factory=Exactness)
    accepted: Sequence[Accepted] = ([],)
    fitted: FittedHead | None = None
    plan: Plan | None = None


def log_line(
    ended: Outcome,
    model: RunModel,
    round_id: RoundId,
    metrics: Mapping[str, Any],
    losses: Mapping[str, float],
) -> dict[str, Any]:
    """Return what the log says of a round, but for its replies and the published files.

    Args:
        ended: the round.
        model: of the run.
        round_id: of the state that the round ended with.
        metrics: the round's line of metrics.jsonl.
        losses: of the nodes on the rows that they hold out, by name.
    """
    line: dict[str, Any] = {
        "adapter_hash": round_id.parent,
        "base": model.description.fingerprint,
        "config": round_id.run,
        "max_rank": model.max_rank,
        "held_out": losses,
        "metrics": metrics,
    }
    if ended.state.round == 0:
        line["model"] = model.description.to_values()
    if ended.plan:
        line["plan"] = ended.plan.to_record()
    return line | ({"head": ended.fitted.record} if ended.fitted else {})


def told_of(ended: Outcome) -> dict[str, Any]:
    """Return what metrics.jsonl says of the head in closed form and of the plan, where there is one."""
    record = ended.fitted.record if ended.fitted else {}
    head = {key: value for key, value in record.items() if key != "sums"}
    return ({"head": head} if head else {}) | ({"plan": ended.plan.told()} if ended.plan else {})


def kept_facts(
    ended: Outcome, model: RunModel, limits: Mapping[str, int | None], asked: Iterable[str]
) -> dict[str, Any]:
    """Return what else a round depended on: the roster's limits, the model, who was asked, and a head's sums."""
    facts = {"limits": limits, "model": model.description.to_values(), "asked": sorted(asked)}
    return facts | facts_of(ended.fitted)


def replies_of(accepted: Sequence[Accepted], clients: Iterable[ClientMetrics]) -> dict[str, Any]:
    """Return what a line of the log says of each reply: that it counts, with hash and weight, or why it does not."""
    *earlier, last = accepted
    refused = [[client.name, client.reason] for client in clients if client.status == "refused"]
    return {"accepted": last, "refused": refused} | ({"earlier_phases": earlier} if earlier else {})


class RecordedLimits:
    """Limits of the roster, which may change; `asked` has those that the shares of a round depended on."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.asked: dict[str, int | None] = {}

    def __call__(self, name: str) -> int | None:
        """Return a node's limit now."""
        self.asked[name] = self._limit(name)
        return self.asked[name]


def adapter_hash(adapter: Adapter) -> str:
    """Return the SHA-256 of an adapter's buffer in float32."""
    return hashlib.sha256(encode_adapter(adapter)).hexdigest()
