"""What the nodes measure: their losses under a global update, on rows that they do not train on."""

import math
from collections.abc import Mapping

from server.exchange import Exchange, Letter


def losses(exchange: Exchange, names: Mapping[int, str], letter: Letter, number: int) -> dict[str, float]:
    """Each node's loss by name, in order of name; a node that says none, or none that is a number, is absent.

    Args:
        exchange: carries the letters.
        names: of the nodes to ask, by Flower's number.
        letter: the global update and the order.
        number: of the round.
    """
    found = {}
    for node, reply in exchange.ask("evaluate", dict.fromkeys(names, letter), number):
        loss = reply.values.get("loss") if isinstance(reply, Letter) else None
        if isinstance(loss, float) and math.isfinite(loss):
            found[names[node]] = loss
    return dict(sorted(found.items()))
