"""The federated round: phases (server/rounds/phases.py), the next state, evaluation, commit.

A round is committed or it did not happen: everything before `Journal.commit` can be repeated bit for bit, since
every random stream is keyed by names, the round and its phase, and the reduction runs in order of node name.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any, Protocol

from common.adapters.adapter import Adapter
from common.hash_chain import Entry
from common.huggingface.model_description import ModelDescription
from common.protocol.announcement import Announcement
from common.protocol.messages import RoundId
from server.algorithms import Algorithm
from server.algorithms.state import State
from server.algorithms.weighting import Limit
from server.heads.fitter import HeadFitter
from server.heads.fitting import FittedHead
from server.links.ask import Asker, Traffic
from server.links.links import Links
from server.links.messenger import Messenger
from server.metrics.clients import ClientMetrics, OwedBytes
from server.metrics.exactness import measure_exactness, measure_state
from server.metrics.rounds import Exactness, round_metrics
from server.planning.plan import Plan
from server.planning.planner import Planner
from server.rounds import quorum
from server.rounds.cohorts import Cohorts
from server.rounds.evaluation import Evaluator, Test
from server.rounds.log_line import Outcome, RecordedLimits, adapter_hash, kept_facts, log_line, replies_of, told_of
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants, RunModel
from server.rounds.phases import PhaseRunner
from server.rounds.run_settings import RunSettings, algorithm_of, check_first, planner_of
from server.storage.journal import Journal


class Publisher(Protocol):
    """Publishes the global update of each committed round as files."""

    def prepare(self, adapter: Adapter, model: ModelDescription) -> Mapping[str, Any]:
        """Return what the log holds of the files of a global update that will be committed."""
        ...

    def publish(self, adapter: Adapter, model: ModelDescription, entry: Entry) -> None:
        """Publish the global update of a committed round, unless it is published, with the bytes that its line has."""
        ...


class RoundLoop:
    """One run, from its last committed round to its end.

    `participants` are its nodes, and `links` the way to them.
    """

    def __init__(
        self,
        messenger: Messenger,
        settings: RunSettings,
        model: RunModel,
        journal: Journal,
        observer: RunObserver,
        publisher: Publisher,
        test: Test | None = None,
        limit: Limit = lambda name: None,
    ) -> None:
        """Make the loop; no node needs to be there yet.

        Raises:
            JournalError: the journal belongs to other settings or another base.
            ConfigError: the algorithm does not support the settings.
        """
        self._settings, self._journal, self._observer = settings, journal, observer
        self._publisher = publisher
        check_first(journal.entries, settings, model)
        self._model = model = model.planned(journal.entries)
        self._algorithm, self._planner = algorithm_of(settings, model), planner_of(settings, model)
        asks = self._algorithm.one_rank, self._algorithm.asks_gradients, settings.lora.head != "trained"
        named = settings.config, settings.name, observer
        begun = bool(journal.entries)
        self.participants = Participants(messenger, model, settings.lora.targets, *asks, *named, begun=begun)
        self.links = Links(messenger, settings.server.codec, settings.server.wire, self.participants.held.get)
        self._limits = RecordedLimits(limit)
        phases, silence = self._algorithm.phases, quorum.Silence(self.participants, settings, observer)
        self._phases = PhaseRunner(settings, phases, self.links, journal, observer, self._limits, silence)
        self._cohorts = Cohorts(self.participants, settings, silence, journal)
        self._owed, losses = OwedBytes(), journal.entries[-1]["held_out"] if begun else {}
        among = self.participants, self._cohorts, self.links
        self._evaluator = Evaluator(settings, *among, self._owed, observer, test or Test(), losses)
        self._plan: Plan | None = None
        self._heads = self._head_fitter()

    @property
    def nodes(self) -> Mapping[str, Announcement]:
        """The nodes that take part, by name."""
        return self.participants.nodes

    def run(self) -> State:
        """Publish what is committed, run the remaining rounds, and return the state after the last one.

        Raises:
            RunError: a round had too few updates in every attempt, or could not be written.
        """
        has_begun, rounds = bool(self._journal.entries), self._settings.train.rounds
        # Before nodes are waited for, since a rule may refuse the adapter that the run would begin with.
        state = self._load_committed() if has_begun else self._initial()
        if state.round < rounds:
            quorum.wait_for_quorum(self.participants, self._settings, self._observer, self._settings.settle)
        self._observer.on_run_started(rounds, max(0, len(self._journal.entries) - 1))
        state = state if has_begun else self._begin(state)
        while state.round < rounds:
            state = self._round(state)
        return state

    def last_update(self) -> tuple[RoundId, Adapter]:
        """Return the global update of the last committed round, and the id of that round."""
        state = self._journal.last_state()
        return self._round_id(state, state.round), self._algorithm.broadcast_update(state)

    def _load_committed(self) -> State:
        return load_published(self._algorithm, self._model, self._journal, self._publisher)

    def _initial(self) -> State:
        return self._algorithm.initial(self._model.description.shapes, self._model.start)

    def _begin(self, initial: State) -> State:
        began = time.monotonic()
        for attempt in range(1, self._settings.attempts + 1):
            if (state := self._with_plan(initial)) is not None:
                clients = self._cohorts.records(1, self._evaluator.losses)
                state, fitted = self._fit_head(state, clients)
                if fitted is None or fitted.sums:
                    exact = measure_state(self._algorithm, state) if self._model.start else Exactness()
                    return self._commit(Outcome(state, exact, fitted=fitted, plan=self._plan), clients, began)
            time.sleep(quorum.PAUSE * attempt if attempt < self._settings.attempts else 0)
            quorum.wait_for_quorum(self.participants, self._settings, self._observer)
        raise quorum.questions_error(self._settings, is_planned=self._planner is None or self._plan is not None)

    def _with_plan(self, initial: State) -> State | None:
        """Return the initial state at the ranks of the run's plan, if it has a budget.

        The plan is made where there is none yet; None if fewer nodes than the quorum sent energies.
        """
        if self._planner is None:
            return initial
        if self._plan is None and (plan := self._agree(self._planner, initial)) is not None:
            self._plan, self._model = plan, replace(self._model, ranks=plan.ranks)
            self._algorithm = algorithm_of(self._settings, self._model)
            self._heads = self._head_fitter()
        return self._initial() if self._plan else None

    def _agree(self, planner: Planner, initial: State) -> Plan | None:
        """Return the plan that the nodes' energies give, and note what the question cost each of them."""
        traffic, update = Traffic(), self._algorithm.broadcast_update(initial)
        asker, round_id = Asker(self.links, self._cohorts.waiting(0), traffic), self._round_id(initial, 0)
        nodes = self._cohorts.awake(0)
        if not self._algorithm.shares_factors:  # A rank that no node has would be trained by nobody.
            planner = planner.within(self.nodes[name].rank for name in nodes.values())
        plan = planner.plan(asker, nodes, round_id, update, self._model.description)
        for name, size in traffic.down.items():
            self._owed.owe(name, {"plan": size}, traffic.up.get(name, 0))
        return plan

    def _head_fitter(self) -> HeadFitter:
        own = self._settings.lora.head, self._algorithm, self.links, self._limits, self._settings.quorum
        return HeadFitter(*own)

    def _round(self, state: State) -> State:
        """Return the state after the first attempt that reaches a quorum; a failed attempt changes nothing."""
        failed = 0
        for attempt in count(1):
            quorum.wait_for_quorum(self.participants, self._settings, self._observer)
            self._journal.forget_replies()
            began = time.monotonic()
            clients = self._cohorts.records(state.round + 1, self._evaluator.losses)
            phases = self._algorithm.round(state, self._journal.keep)
            round_id = self._round_id(state, state.round + 1, attempt)
            if (reduced := self._phases.run(phases, round_id, clients, self.participants)) is not None:
                exact = measure_exactness(self._algorithm, state, reduced.state, reduced.updates)
                after, fitted = self._fit_head(reduced.state, clients)
                return self._commit(Outcome(after, exact, reduced.accepted, fitted), clients, began)
            failed += self._cohorts.are_enough_left()  # An attempt does not count if nodes vanished in it.
            if failed == self._settings.attempts:
                break
            self._abandon(state.round + 1, attempt, clients, pause=quorum.PAUSE * failed)
        self._observer.on_round_abandoned(state.round + 1, attempt, quorum.rejection_reasons(clients))
        raise quorum.quorum_error(state.round + 1, clients, self._settings.quorum, self._settings.attempts)

    def _fit_head(self, state: State, clients: Mapping[str, ClientMetrics]) -> tuple[State, FittedHead | None]:
        """Return the state with a head in closed form before the first round and after the last, if it is better."""
        if not self._heads.is_asked or 0 < state.round < self._settings.train.rounds:
            return state, None
        nodes, waiting = self._cohorts.awake(state.round), self._cohorts.waiting(state.round)
        return self._heads.fit(state, nodes, self._round_id(state, state.round), waiting, clients)

    def _abandon(self, number: int, attempt: int, clients: Mapping[str, ClientMetrics], pause: float) -> None:
        self._observer.on_round_abandoned(number, attempt, quorum.rejection_reasons(clients))
        for client in clients.values():
            self._owed.owe(client.name, client.bytes_by_part, client.bytes_up)
        time.sleep(pause)

    def _round_id(self, state: State, number: int, attempt: int = 1) -> RoundId:
        return RoundId(
            self._settings.config,
            number,
            adapter_hash(self._algorithm.broadcast_update(state)),
            self._model.description.fingerprint,
            attempt,
        )

    def _commit(self, ended: Outcome, clients: dict[str, ClientMetrics], began: float) -> State:
        """Evaluate the new global update where it is its turn, write the state, and return it."""
        update = self._algorithm.broadcast_update(ended.state)
        round_id = self._round_id(ended.state, ended.state.round)
        tested = self._evaluator.measure(update, round_id, clients, self._algorithm.phases)
        self._owed.settle(clients.values())
        everyone = [*clients.values(), *self.participants.rejected_metrics()]
        seconds = time.monotonic() - began
        record = round_metrics(ended.state.round, seconds, tested, ended.exact, everyone, told_of(ended))
        line = log_line(ended, self._model, round_id, record, self._evaluator.losses)
        line |= {**replies_of(ended.accepted, everyone), **self._publisher.prepare(update, self._model.description)}
        self._journal.commit(ended.state, line, self._facts(ended, clients))
        committed = self._load_committed()
        self._observer.on_round_committed(record)
        return committed

    def _facts(self, ended: Outcome, clients: Mapping[str, ClientMetrics]) -> Mapping[str, Any]:
        """Return what is kept beside the updates of a round, if these are kept."""
        is_kept = self._settings.server.keep_updates != "none"
        return kept_facts(ended, self._model, self._limits.asked, clients) if is_kept else {}


def load_published(algorithm: Algorithm, model: RunModel, journal: Journal, publisher: Publisher) -> State:
    """Load the state of the last committed round from its checkpoint, and publish its global update."""
    state = journal.last_state()
    publisher.publish(algorithm.broadcast_update(state), model.description, journal.entries[-1])
    return state
