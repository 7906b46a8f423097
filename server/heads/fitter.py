"""A run's heads in closed form: before its first round, and under the trained update at its end."""

from collections.abc import Mapping
from typing import Literal, Protocol

from common.protocol.messages import RoundId
from server.algorithms import Algorithm
from server.algorithms.state import State
from server.algorithms.weighting import Limit
from server.heads.exchange import HeadExchange
from server.heads.fitting import FittedHead, Question, fit_head
from server.links.ask import Asker, Nodes, Traffic, Waiting
from server.links.links import Links, Sent


class Counter(Protocol):
    """The record of a client, which counts its bytes."""

    bytes_up: int

    def count_down(self, sent: Sent) -> None:
        """Count bytes that the client was sent, by part."""
        ...


class HeadFitter:
    """Makes heads of one kind and puts them into states.

    Args:
        kind: of head; `trained` for none.
        algorithm: of the run.
        links: to the nodes.
        limit: of each node by the roster.
        quorum: fewest nodes behind a head.
    """

    def __init__(
        self, kind: Literal["trained", "means", "lda"], algorithm: Algorithm, links: Links, limit: Limit, quorum: int
    ) -> None:
        self._kind, self._algorithm, self._links, self._limit, self._quorum = kind, algorithm, links, limit, quorum
        self._untold = Traffic()  # of attempts at the first head that came to none

    @property
    def is_asked(self) -> bool:
        """The run has heads in closed form."""
        return self._kind != "trained"

    def fit(
        self, state: State, nodes: Nodes, round_id: RoundId, waiting: Waiting, clients: Mapping[str, Counter]
    ) -> tuple[State, FittedHead]:
        """Return the state with the best head, and what is told of it.

        Args:
            state: whose head may be replaced.
            nodes: to ask.
            round_id: of the state.
            waiting: for the nodes.
            clients: count the bytes of those that are in the round, those of attempts before that came to none too.
        """
        assert self._kind != "trained"
        update, last = self._algorithm.broadcast_update(state), self._algorithm.settings.last
        shape, traffic = update[last].shape, self._untold
        exchange = HeadExchange(Asker(self._links, waiting, traffic), shape, self._kind == "lda", self._limit)
        asked = Question(nodes, round_id, update, last, self._kind, self._quorum, begins=state.round == 0)
        fitted = fit_head(exchange, asked, self._limit)
        if asked.begins and not fitted.sums:
            return state, fitted
        self._untold = Traffic()
        for name, client in clients.items():
            client.bytes_up += traffic.up.get(name, 0)
            client.count_down({"head": size} if (size := traffic.down.get(name, 0)) else {})
        others = {way: sum(n for name, n in each.items() if name not in clients) for way, each in _ways(traffic)}
        told = FittedHead({**fitted.record, **others}, fitted.sums)
        return (self._algorithm.with_head(state, told.factors) if told.is_kept else state), told


def _ways(traffic: Traffic) -> tuple[tuple[str, dict[str, int]], ...]:
    """Return the bytes of nodes both ways, under the names that tell those of nodes outside the round's cohort."""
    return ("others_bytes_up", traffic.up), ("others_bytes_down", traffic.down)
