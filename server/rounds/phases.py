"""The phases of a round: each assigns, collects into a spool, and weighs; the last ends in the next state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from common.adapters.adapter import Shapes
from common.adapters.rounding import Wire, round_adapter
from common.protocol.assignment import Assignment, CountedReply, RankPattern
from common.protocol.messages import RoundId, lent_factors
from server.algorithms import WeightedUpdate, algorithm_named, weights_of
from server.algorithms.base import Phase, Phases
from server.algorithms.state import State
from server.algorithms.weighting import ClientUpdate, Limit, find_shares, weighting_named
from server.clipping.clip import NormBound
from server.clipping.identical import find_identical
from server.links.grace import Grace
from server.links.links import Links
from server.metrics.clients import ClientMetrics
from server.rounds.collect import RoundRequest, collect_updates
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants
from server.rounds.quorum import Silence
from server.rounds.run_settings import RunSettings
from server.storage.counted_replies import counted_replies, rows_read

Clients = Mapping[str, ClientMetrics]


Accepted = list[list[Any]]
"""For each update of a phase, in order of node name: [node, hash, weight, signature, norm as received, clip factor]."""
_NORM = 4


@dataclass(frozen=True)
class Reduced:
    """A round that has its quorum.

    Args:
        state: the next one.
        updates: those in its sum, clipped, with their shares.
        accepted: the same of each phase, for the log.
    """

    state: State
    updates: Sequence[WeightedUpdate]
    accepted: Sequence[Accepted]


class Rounds(Protocol):
    """The committed rounds, and the spool of the running one: a journal."""

    @property
    def entries(self) -> Sequence[Mapping[str, Any]]:
        """The lines of the log, one for each round."""
        ...

    def spool_path(self, name: str, phase: int = 1) -> Path:
        """Return the file for the reply of the node `name` in this phase."""
        ...


class PhaseRunner:
    """Runs the phases of each round, whatever the algorithm does in them.

    Args:
        settings: of the run.
        phases: number of phases of a round, as the nodes are told.
        links: to the nodes.
        rounds: gives each update its file, and the norms of earlier rounds.
        observer: notified as replies arrive.
        limit: returns the most examples that the roster lets a node report, by its name; None without a limit.
        silence: of the nodes; without one every node has the messenger's deadline.
    """

    def __init__(
        self,
        settings: RunSettings,
        phases: int,
        links: Links,
        rounds: Rounds,
        observer: RunObserver,
        limit: Limit,
        silence: Silence | None = None,
    ) -> None:
        self._phases, self._silence = phases, silence
        self._settings, self._links, self._rounds, self._observer = settings, links, rounds, observer
        self._weighting, self._limit = weighting_named(weights_of(settings.server)), limit
        self._bound = NormBound(settings.server.norm_bound, algorithm_named(settings.server.algorithm).averages_apart)

    def run(self, phases: Phases, round_id: RoundId, clients: Clients, participants: Participants) -> Reduced | None:
        """Return the next state and the updates in it, or None if a phase has fewer than the quorum.

        A node whose reply does not count in one phase is not in the next.
        """
        phase, left, quorum, accepted = next(phases), dict(clients), self._settings.quorum, []
        while len(left) >= quorum:
            received = self._clip(self._collect(phase, round_id, left, participants), round_id, left)
            updates = self._weigh(received, left)
            left = {update.name: left[update.name] for update in updates}
            if len(left) < quorum:
                break
            accepted.append([_log(update, left[update.name].share) for update in received])
            try:
                phase, round_id = phases.send(updates), replace(round_id, phase=round_id.phase + 1)
            except StopIteration as end:
                return Reduced(end.value, updates, accepted)
        return None

    def _collect(
        self, phase: Phase, round_id: RoundId, clients: Clients, participants: Participants
    ) -> list[ClientUpdate]:
        self._observer.on_round_started(round_id.round, len(clients))
        request = self._request(phase, round_id, clients, participants)
        asked = {participants.ids[name]: client for name, client in clients.items()}
        spool, done = partial(self._rounds.spool_path, phase=round_id.phase), self._observer.on_client_done
        grace = Grace(self._settings.quorum, None)
        if self._silence:
            grace = self._silence.grace(round_id.round, self._settings.quorum, self._rounds.entries)
        updates = collect_updates(self._links, request, asked, spool, done, grace)
        if self._silence:
            self._silence.take(round_id.round, {node: client.name for node, client in asked.items()}, grace)
        return updates

    def _request(self, phase: Phase, round_id: RoundId, clients: Clients, participants: Participants) -> RoundRequest:
        """Return the request; where nodes go on from earlier replies, each is told which of them counted."""
        key = self._settings.seed, round_id.round, round_id.phase
        assign = partial(assign_to, phase, participants.shapes, self._settings.server.wire, key)
        entries = self._rounds.entries
        if phase.memory_begins is None:
            training = replace(self._settings.training(round_id.round), phase=round_id.phase)
            return RoundRequest(round_id, self._phases, lambda name: training, assign)
        equal = self._weighting is weighting_named("uniform")
        rows = {name: 1 if equal else _capped(client.rows, self._limit(name)) for name, client in clients.items()}
        drawn = phase.memory_begins
        own = self._settings.exchange(round_id.round, rows, self._limit, rows_read(entries), drawn)
        counted = counted_replies(entries, drawn)
        return RoundRequest(
            round_id, self._phases, own.__getitem__, assign, lambda name: counted.get(name, CountedReply())
        )

    def _clip(self, updates: Sequence[ClientUpdate], round_id: RoundId, clients: Clients) -> list[ClientUpdate]:
        """Return the updates within their norm bound; what was clipped, and what is identical, is recorded."""
        identical = find_identical(updates)
        rates = self._settings.training(round_id.round).learning_rates
        clipped = self._bound.clip(updates, rates, self._earlier_norms(round_id.phase))
        for update in clipped:
            record = clients[update.name]
            record.clip, record.same_as = update.clip, identical.get(update.name)
        return clipped

    def _earlier_norms(self, phase: int) -> list[float]:
        """Return the norms of all replies to this phase in the committed rounds, but those before norms were logged."""
        rounds = ([*entry.get("earlier_phases", []), entry.get("accepted", [])] for entry in self._rounds.entries)
        return [each[_NORM] for phases in rounds if len(phases) >= phase for each in phases[phase - 1]]

    def _weigh(self, updates: Sequence[ClientUpdate], clients: Clients) -> list[WeightedUpdate]:
        """Return the updates with their shares, which are also recorded, and signed in the receipts."""
        updates = [replace(update, predictions=self._predictions(clients[update.name])) for update in updates]
        shares = find_shares(updates, self._weighting, self._settings.server.max_share, self._limit)
        for update, share in zip(updates, shares, strict=True):
            clients[update.name].share = share
        return [update.weighted(share) for update, share in zip(updates, shares, strict=True)]

    def _predictions(self, client: ClientMetrics) -> int:
        """Return the predictions that a node announced, as far as the roster allows them."""
        by_rows = self._weighting.by_announced_rows
        return _capped(client.predictions, self._limit(client.name)) if by_rows else client.predictions


def _capped(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)


def _log(update: ClientUpdate, share: float) -> list[Any]:
    return [update.name, update.update, share, update.signature, update.norm, update.clip]


def assign_to(phase: Phase, shapes: Shapes, wire: Wire, key: tuple[int, ...], name: str, rank: int) -> Assignment:
    """Return a node's assignment, with terms that the wire holds; the key is of the run, the round and the phase."""
    plain = phase.assign(name, RankPattern.fitting(rank, shapes))
    lent = lent_factors(plain.start, plain.trains)
    terms = (
        replace(term, adapter=round_adapter(term.adapter, wire, *key, name, term.name, omit=lent))
        for term in plain.terms
    )
    return replace(plain, terms=tuple(terms), wire=wire)
