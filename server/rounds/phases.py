"""The phases of a round: each assigns, collects into a spool, and weighs; the last ends in the next state."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from common.adapters.adapter import Shapes
from common.protocol.assignment import Assignment, RankPattern
from common.protocol.messages import RoundId
from server.algorithms import WeightedUpdate, weights_of
from server.algorithms.base import Phase, Phases
from server.algorithms.state import State
from server.algorithms.weighting import ClientUpdate, Limit, find_shares, weighting_named
from server.rounds.collect import RoundRequest, collect_updates
from server.rounds.messenger import Links
from server.rounds.metrics import ClientMetrics
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants
from server.rounds.run_settings import RunSettings

Clients = Mapping[str, ClientMetrics]


class SpoolPath(Protocol):
    """Returns the file for the update of a node in a phase."""

    def __call__(self, name: str, phase: int) -> Path:
        """Return it."""
        ...


class PhaseRunner:
    """Runs the phases of each round, whatever the algorithm does in them.

    Args:
        settings: of the run.
        phases: number of phases of a round, as the nodes are told.
        links: to the nodes.
        spool: returns the file for an update.
        observer: notified as replies arrive.
        limit: returns the most examples that the roster lets a node report, by its name; None without a limit.
    """

    def __init__(
        self, settings: RunSettings, phases: int, links: Links, spool: SpoolPath, observer: RunObserver, limit: Limit
    ) -> None:
        self._phases = phases
        self._settings, self._links, self._spool, self._observer = settings, links, spool, observer
        self._weighting, self._limit = weighting_named(weights_of(settings.server)), limit

    def run(
        self, phases: Phases, round_id: RoundId, clients: Clients, participants: Participants
    ) -> tuple[State, Sequence[WeightedUpdate]] | None:
        """Return the next state and the updates in it, or None if a phase has fewer than the quorum.

        A node whose reply does not count in one phase is not in the next.
        """
        phase, left, quorum = next(phases), dict(clients), self._settings.quorum
        while len(left) >= quorum:
            updates = self._weigh(self._collect(phase, round_id, left, participants), left)
            left = {update.name: left[update.name] for update in updates}
            if len(left) < quorum:
                break
            try:
                phase, round_id = phases.send(updates), replace(round_id, phase=round_id.phase + 1)
            except StopIteration as end:
                return end.value, updates
        return None

    def _collect(
        self, phase: Phase, round_id: RoundId, clients: Clients, participants: Participants
    ) -> list[ClientUpdate]:
        self._observer.on_round_started(round_id.round, len(clients))
        training = replace(self._settings.training(round_id.round), phase=round_id.phase)
        request = RoundRequest(round_id, self._phases, training, partial(_assign, phase, participants.shapes))
        asked = {participants.ids[name]: client for name, client in clients.items()}
        spool, done = partial(self._spool, phase=round_id.phase), self._observer.on_client_done
        return collect_updates(self._links, request, asked, spool, done)

    def _weigh(self, updates: Sequence[ClientUpdate], clients: Clients) -> list[WeightedUpdate]:
        """Return the updates with their shares, which are also recorded, and signed in the receipts."""
        shares = find_shares(updates, self._weighting, self._settings.server.max_share, self._limit)
        for update, share in zip(updates, shares, strict=True):
            clients[update.name].share = share
        return [update.weighted(share) for update, share in zip(updates, shares, strict=True)]


def _assign(phase: Phase, shapes: Shapes, name: str, rank: int) -> Assignment:
    return phase.assign(name, RankPattern.fitting(rank, shapes))
