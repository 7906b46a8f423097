"""Who takes part: nodes that share one base model, and the cohort of a round."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from common.announcement import Announcement
from common.messages import Reason
from common.streams import stream

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The names that a node's own file may give it; each can name a file."""


def majority(nodes: Sequence[Announcement]) -> Announcement:
    """A node whose model most have; of equally frequent ones the first by fingerprint."""
    counts = Counter(node.model for node in nodes)
    return min(nodes, key=lambda node: (-counts[node.model], node.fingerprint, str(node.model)))


def objection(
    node: Announcement, known: Mapping[str, Announcement], like: Announcement, max_rank: int
) -> Reason | None:
    """Why a node cannot take part beside the known ones, with a model like that one's; None if it can."""
    if node.name in known or not _NAME.fullmatch(node.name):
        return "name"
    if node.fingerprint != like.fingerprint:
        return "base"
    if node.model != like.model:
        return "shape"
    return "rank" if node.rank > max_rank else None


def cohort(names: Sequence[str], size: int | None, seed: int, number: int) -> tuple[str, ...]:
    """The nodes that train in round `number`, in order of name; a seeded sample where `size` is below their number."""
    ordered = sorted(names)
    if size is None or size >= len(ordered):
        return tuple(ordered)
    chosen = stream(seed, "cohort", number).choice(len(ordered), size, replace=False)
    return tuple(ordered[index] for index in sorted(chosen))
