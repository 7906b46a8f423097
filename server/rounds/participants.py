"""The nodes of a run: the connected ones with the run's base model, and the rejected ones with the reason."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.adapters.adapter import Shapes
from common.errors import JournalError, RunError
from common.protocol.announcement import Announcement
from common.protocol.messages import RejectionReason
from common.protocol.payload import Payload
from common.seeding import rng
from server.rounds.messenger import Messenger
from server.rounds.metrics import ClientMetrics


class Participants:
    """Announced nodes by name. The first to announce themselves fix the largest rank and, by majority, the model."""

    def __init__(self, base: str = "", max_rank: int = 0) -> None:
        self.base, self.max_rank = base, max_rank
        self._like: Announcement | None = None
        self.nodes: dict[str, Announcement] = {}
        self.ids: dict[str, int] = {}
        self.rejected: dict[int, tuple[Announcement, RejectionReason]] = {}

    def refresh(self, messenger: Messenger, question: Mapping[str, Any]) -> None:
        """Ask new nodes to announce themselves, and forget those that are no longer connected."""
        connected = set(messenger.nodes())
        self.ids = {name: node for name, node in self.ids.items() if node in connected}
        self.nodes = {name: self.nodes[name] for name in self.ids}
        # Its name may be free by now, for example where the same client came back under another number.
        self.rejected = {n: entry for n, entry in self.rejected.items() if n in connected and entry[1] != "name"}
        unknown = connected - set(self.ids.values()) - self.rejected.keys()
        answers = dict(_announcements(messenger, {node: Payload(question) for node in sorted(unknown)}))
        if alike := [node for node in answers.values() if node.fingerprint == self.base or not self.base]:
            self._choose(alike)
        for node, announcement in sorted(answers.items(), key=lambda item: (item[1].name, item[0])):
            self._accept(node, announcement)

    @property
    def shapes(self) -> Shapes:
        """(d, k) of the run's modules: those of any node, since their fingerprints are equal."""
        return self.any().shapes

    def any(self) -> Announcement:
        """Return any node that takes part."""
        return next(iter(self.nodes.values()))

    def require_any(self) -> None:
        """Raise an error if the run has no nodes.

        Raises:
            JournalError: all connected nodes have another base than the run began with.
            RunError: no node is connected, or none answered.
        """
        if self.nodes:
            return
        if others := self.other_bases():
            raise JournalError(
                f"the run's base, tokenizer, targets or labels have fingerprint {self.base}, but the nodes "
                f"have {', '.join(others)}; give the nodes what the run began with"
            )
        raise RunError("no node answered; start the clients and run again with --resume")

    def other_bases(self) -> list[str]:
        """Return the fingerprints of the nodes that were rejected for theirs."""
        return sorted({node.fingerprint for node, reason in self.rejected.values() if reason == "base"})

    def rejected_metrics(self) -> list[ClientMetrics]:
        """Return a record of each rejected node."""
        return [
            ClientMetrics(node.name, node.rank, node.rows, status="refused", reason=reason)
            for node, reason in self.rejected.values()
        ]

    def _choose(self, nodes: Sequence[Announcement]) -> None:
        like = self._like = self._like or majority_model(nodes)
        self.base = like.fingerprint
        self.max_rank = self.max_rank or max(node.rank for node in nodes if node.model == like.model)

    def _accept(self, node: int, announcement: Announcement) -> None:
        like = self._like
        reason = mismatch(announcement, self.nodes, like, self.max_rank) if like else "base"
        if reason:
            self.rejected[node] = announcement, reason
        else:
            self.nodes[announcement.name], self.ids[announcement.name] = announcement, node


def _announcements(messenger: Messenger, payloads: Mapping[int, Payload]) -> Iterator[tuple[int, Announcement]]:
    """Yield nodes' announcements; a node with no valid answer is asked again in the next round."""
    for node, reply in messenger.request("query", payloads, 0):
        try:
            if isinstance(reply, Payload):
                yield node, Announcement.from_values(reply.values)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names that a node's own file may give it; each is a valid file name."""


def majority_model(nodes: Sequence[Announcement]) -> Announcement:
    """Return a node with the most frequent model; of equally frequent ones the first by fingerprint."""
    counts = Counter(node.model for node in nodes)
    return min(nodes, key=lambda node: (-counts[node.model], node.fingerprint, str(node.model)))


def mismatch(
    node: Announcement, known: Mapping[str, Announcement], like: Announcement, max_rank: int
) -> RejectionReason | None:
    """Return the reason that bars a node from joining the known ones, with the model of `like`, or None."""
    if node.name in known or not _NAME.fullmatch(node.name):
        return "name"
    if node.fingerprint != like.fingerprint:
        return "base"
    if node.model != like.model:
        return "shape"
    return "rank" if node.rank > max_rank else None


def sample_cohort(names: Sequence[str], size: int | None, seed: int, number: int) -> tuple[str, ...]:
    """Return the nodes that train in round `number`, in order of name; a seeded sample if more than `size`."""
    ordered = sorted(names)
    if size is None or size >= len(ordered):
        return tuple(ordered)
    chosen = rng(seed, "cohort", number).choice(len(ordered), size, replace=False)
    return tuple(ordered[index] for index in sorted(chosen))
