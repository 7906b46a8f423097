"""Identical updates: what two nodes send alike, in the same bytes or as (B Q, Q^-1 A) in other coordinates.

One node behind two names, or one that copies another, counts twice. That is for people to judge: it is told, and
nothing is refused. A copy with noise of more than `SAME` is another update.
"""

from collections.abc import Sequence

from common.adapters.change import SAME, is_same_change
from server.algorithms.weighting import ClientUpdate


def find_identical(updates: Sequence[ClientUpdate]) -> dict[str, str]:
    """Return the first other node, by name, that sent the same update; by name, without nodes that are alone in it.

    Args:
        updates: of one phase, as received.
    """
    groups: list[list[ClientUpdate]] = []
    for update in sorted(updates, key=lambda update: (update.norm, update.name)):
        home = next((group for group in groups if _is_same(group[0], update)), None)
        if home:
            home.append(update)
        else:
            groups.append([update])
    names = [sorted(update.name for update in group) for group in groups if len(group) > 1]
    return {name: group[name == group[0]] for group in names for name in group}


def _is_same(left: ClientUpdate, right: ClientUpdate) -> bool:
    norm = max(left.norm, right.norm)
    if abs(left.norm - right.norm) > SAME * norm:
        return False
    pair = (left.modules, left.start), (right.modules, right.start)
    return left.update == right.update != "" or is_same_change(*pair, norm)
