"""Metrics of one client in one round."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from common.protocol.messages import RejectionReason


@dataclass
class ClientMetrics:
    """One client's part in one round.

    Args:
        predictions: that it announced: its rows, or for a language model their tokens with loss.
        skipped: rows that it left out, as they cannot be used, and which `rows` does not count.
        loss_before: of the global model that the round starts from, on the node's held-out rows.
        loss_after: the same of the global model that the round ends with.
        share: the client's weight in the sum; all shares of a round add up to 1.
        update: SHA-256 of the factors that it sent.
        norm: of the change from the factors that it started from, as received.
        clip: the factor by which the norm bound scaled its update.
        bytes_by_part: of `bytes_down`: `whole`, a global update for training in full; `change`, its growth; `factors`,
            those to train from; `head`, for a head in closed form; `evaluation`, what came with requests to evaluate.
        same_as: first other node, by name, that sent the same update, in whatever coordinates.
        status: `ok`, `refused` or `absent`; `reason` is the reason word for it.
    """

    name: str
    rank: int
    rows: int
    predictions: int = 0
    skipped: int = 0
    examples: int = 0
    tokens: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_by_part: dict[str, int] = field(default_factory=dict)
    share: float = 0.0
    update: str | None = None
    norm: float | None = None
    clip: float = 1.0
    same_as: str | None = None
    status: str = "ok"
    reason: RejectionReason | None = None

    def count_down(self, sent: Mapping[str, int]) -> None:
        """Count bytes that the client was sent, by part."""
        self.bytes_down += sum(sent.values())
        for part, size in sent.items():
            self.bytes_by_part[part] = self.bytes_by_part.get(part, 0) + size

    def reject(self, reason: RejectionReason) -> None:
        """Record that the client does not count in this round, and the reason."""
        self.status, self.reason = ("absent" if reason == "absent" else "refused"), reason
        self.share, self.update, self.norm, self.clip, self.same_as = 0.0, None, None, 1.0, None


class OwedBytes:
    """Bytes of nodes that had no record for them: they are told in the node's next one.

    These are of an evaluation before a round that it takes part in, and of attempts that were abandoned.
    """

    def __init__(self) -> None:
        self._down: dict[str, Counter[str]] = {}
        self._up: Counter[str] = Counter()

    def owe(self, name: str, down: Mapping[str, int], up: int = 0) -> None:
        """Note bytes to a node, by part, and from it."""
        self._down.setdefault(name, Counter()).update(down)
        self._up[name] += up

    def settle(self, clients: Iterable[ClientMetrics]) -> None:
        """Count what is owed to these records."""
        for client in clients:
            client.count_down(self._down.pop(client.name, {}))
            client.bytes_up += self._up.pop(client.name, 0)
