"""The federated round: phases (server/rounds/phases.py), the next state, evaluation, commit.

A round is committed or it did not happen: everything before `Journal.commit` can be repeated bit for bit, since
every random stream is keyed by names, the round and its phase, and the reduction runs in order of node name.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.errors import JournalError
from common.hash_chain import Entry
from common.huggingface.model_description import ModelDescription
from common.protocol.announcement import Announcement
from common.protocol.messages import FROZEN, RoundId
from common.protocol.payload import Payload
from common.settings.evaluation import evaluation_interval
from server.algorithms import Algorithm, AlgorithmSettings, create_algorithm
from server.algorithms.state import State
from server.algorithms.weighting import Limit
from server.rounds import quorum
from server.rounds.collect import collect_losses
from server.rounds.exactness import measure_exactness
from server.rounds.messenger import Links, Messenger
from server.rounds.metrics import ClientMetrics, Exactness, TestScore, round_metrics
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants, RunModel, sample_cohort
from server.rounds.phases import Accepted, PhaseRunner
from server.rounds.run_settings import RunSettings
from server.storage.journal import Journal


@dataclass(frozen=True)
class Test:
    """The test rows that the run's owner holds.

    Args:
        rows: number of them.
        measure: returns loss and accuracy of a global update on them.
    """

    rows: int = 0
    measure: Callable[[Adapter], TestScore] = lambda adapter: TestScore()


class Publisher(Protocol):
    """Publishes the global update of each committed round as files."""

    def prepare(self, adapter: Adapter, model: ModelDescription) -> Mapping[str, Any]:
        """Return what the log holds of the files of a global update that will be committed."""
        ...

    def publish(self, adapter: Adapter, model: ModelDescription, entry: Entry) -> None:
        """Publish the global update of a committed round, unless it is published, with the bytes that its line has."""
        ...


class RoundLoop:
    """One run, from its last committed round to its end."""

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
        self._settings, self._model, self._journal, self._observer = settings, model, journal, observer
        self._publisher, self._links = publisher, Links(messenger, settings.server.codec)
        self._test = test or Test()
        _check_first(journal.entries, settings, model)
        self._algorithm = algorithm_of(settings, model)
        asks = self._algorithm.one_rank, self._algorithm.asks_gradients
        self._participants = Participants(messenger, model, settings.lora.targets, *asks)
        self._limits = RecordedLimits(limit)
        phases = self._algorithm.phases
        self._silence = quorum.Silence(self._participants, settings, observer)
        self._phases = PhaseRunner(settings, phases, self._links, journal, observer, self._limits, self._silence)
        self._losses: Mapping[str, float] = journal.entries[-1]["held_out"] if journal.entries else {}

    @property
    def nodes(self) -> Mapping[str, Announcement]:
        """The nodes that take part, by name."""
        return self._participants.nodes

    def run(self) -> State:
        """Publish what is committed, run the remaining rounds, and return the state after the last one.

        Raises:
            RunError: a round had too few updates in every attempt, or could not be written.
        """
        state, rounds = self._load_committed() if self._journal.entries else None, self._settings.train.rounds
        if state is None or state.round < rounds:
            quorum.wait_for_quorum(self._participants, self._settings, self._observer, self._settings.settle)
        self._observer.on_run_started(rounds, max(0, len(self._journal.entries) - 1))
        state = state or self._begin()
        while state.round < rounds:
            state = self._round(state)
        return state

    def _load_committed(self) -> State:
        return load_published(self._algorithm, self._model, self._journal, self._publisher)

    def _begin(self) -> State:
        began = time.monotonic()
        state = self._algorithm.initial(self._model.description.shapes)
        return self._commit(state, self._cohort(1), Exactness(), began)

    def _round(self, state: State) -> State:
        """Return the state after the first attempt that reaches a quorum; a failed attempt changes nothing."""
        failed = 0
        for attempt in count(1):
            quorum.wait_for_quorum(self._participants, self._settings, self._observer)
            self._journal.forget_replies()
            began = time.monotonic()
            clients = self._cohort(state.round + 1)
            phases = self._algorithm.round(state, self._journal.keep)
            round_id = self._round_id(state, state.round + 1, attempt)
            if (reduced := self._phases.run(phases, round_id, clients, self._participants)) is not None:
                exact = measure_exactness(self._algorithm, state, reduced.state, reduced.updates)
                return self._commit(reduced.state, clients, exact, began, reduced.accepted)
            failed += self._are_enough_left()
            if failed == self._settings.attempts:
                break
            self._abandon(state.round + 1, attempt, clients, pause=quorum.PAUSE * failed)
        self._observer.on_round_abandoned(state.round + 1, attempt, quorum.rejection_reasons(clients))
        raise quorum.quorum_error(state.round + 1, clients, self._settings.quorum, self._settings.attempts)

    def _are_enough_left(self) -> bool:
        """Return whether a quorum of nodes is still connected: an attempt does not count if nodes vanished in it."""
        self._participants.refresh()
        return len(self.nodes) >= self._settings.quorum

    def _abandon(self, number: int, attempt: int, clients: Mapping[str, ClientMetrics], pause: float) -> None:
        self._observer.on_round_abandoned(number, attempt, quorum.rejection_reasons(clients))
        time.sleep(pause)

    def _cohort(self, number: int) -> dict[str, ClientMetrics]:
        available = self._silence.available(number)
        names = sample_cohort(available, self._settings.server.cohort, self._settings.seed, number)
        nodes = [self.nodes[name] for name in names]
        return {n.name: _metrics(n, self._losses.get(n.name)) for n in nodes}

    def _round_id(self, state: State, number: int, attempt: int = 1) -> RoundId:
        return RoundId(
            self._settings.config,
            number,
            adapter_hash(self._algorithm.broadcast_update(state)),
            self._model.description.fingerprint,
            attempt,
        )

    def _commit(
        self,
        state: State,
        clients: dict[str, ClientMetrics],
        exact: Exactness,
        began: float,
        accepted: Sequence[Accepted] = ([],),
    ) -> State:
        """Evaluate the new global update where it is its turn, write the state, and return it."""
        tested = TestScore()
        self._losses = {}
        if self._is_evaluated(state.round):
            following = self._cohort(state.round + 1) if state.round < self._settings.train.rounds else {}
            self._losses = self._evaluate(state, {*clients, *following}, clients)
            tested = self._test.measure(self._algorithm.broadcast_update(state))
        for client in clients.values():
            client.loss_after = self._losses.get(client.name)
        everyone = [*clients.values(), *self._participants.rejected_metrics()]
        record = round_metrics(state.round, time.monotonic() - began, tested, exact, everyone)
        entry = {
            "adapter_hash": adapter_hash(self._algorithm.broadcast_update(state)),
            "base": self._model.description.fingerprint,
            "config": self._settings.config,
            "max_rank": self._model.max_rank,
            "held_out": self._losses,
            "metrics": record,
            **_replies(accepted, everyone),
            **self._publisher.prepare(self._algorithm.broadcast_update(state), self._model.description),
        }
        if state.round == 0:
            entry["model"] = self._model.description.to_values()
        facts = {"limits": self._limits.asked, "model": self._model.description.to_values(), "asked": sorted(clients)}
        self._journal.commit(state, entry, facts)
        committed = self._load_committed()
        self._observer.on_round_committed(record)
        return committed

    def _is_evaluated(self, number: int) -> bool:
        train, server, phases = self._settings.train, self._settings.server, self._algorithm.phases
        rows = [node.rows for node in self.nodes.values()]
        interval = evaluation_interval(train, server, rows, self._test.rows, phases)
        return number % interval == 0 or number == train.rounds

    def _evaluate(self, state: State, names: set[str], clients: Mapping[str, ClientMetrics]) -> dict[str, float]:
        round_id = self._round_id(state, state.round)
        payload = Payload(round_id.to_values(), parts={FROZEN: encode_adapter(self._algorithm.broadcast_update(state))})
        names = {name for name in names if not self._silence.rests(name, state.round)}
        by_id = {self._participants.ids[name]: name for name in sorted(names & self.nodes.keys())}
        self._observer.on_evaluating(len(by_id))
        grace = self._silence.grace(state.round, 1, self._journal.entries)
        losses, sent = collect_losses(self._links, by_id, payload, round_id, grace)
        self._silence.take(state.round, by_id, grace)
        for name in sent.keys() & clients.keys():
            clients[name].bytes_down += sent[name]
        return losses


def _metrics(node: Announcement, loss: float | None) -> ClientMetrics:
    predictions = node.rows if node.predictions is None else node.predictions
    return ClientMetrics(node.name, node.rank, node.rows, predictions, loss_before=loss)


def algorithm_of(settings: RunSettings, model: RunModel) -> Algorithm:
    """Make the algorithm of a run.

    Raises:
        ConfigError: it does not support the settings.
    """
    head = frozenset(module.name for module in model.description.head)
    return create_algorithm(
        AlgorithmSettings(settings.seed, (model.max_rank,), settings.lora, settings.server, head, settings.train)
    )


def load_published(algorithm: Algorithm, model: RunModel, journal: Journal, publisher: Publisher) -> State:
    """Load the state of the last committed round from its checkpoint, and publish its global update."""
    state = journal.last_state()
    publisher.publish(algorithm.broadcast_update(state), model.description, journal.entries[-1])
    return state


class RecordedLimits:
    """Limits of the roster, which may change; `asked` has those that the shares of a round depended on."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.asked: dict[str, int | None] = {}

    def __call__(self, name: str) -> int | None:
        """Return a node's limit now."""
        self.asked[name] = self._limit(name)
        return self.asked[name]


def _check_first(entries: Sequence[Entry], settings: RunSettings, model: RunModel) -> None:
    """Check that the first line of a journal, if there is one, is of these settings and this base."""
    if not entries:
        return
    first, base = entries[0], model.description.fingerprint
    if first["config"] != settings.config:
        raise JournalError(
            f"the run began with settings {first['config']}, but these are {settings.config}; use those of the run"
        )
    if first["base"] != base:
        raise JournalError(
            f"the run's base, tokenizer, targets or labels have fingerprint {first['base']}, but [base] is {base}; "
            "name the base that the run began with"
        )


def _replies(accepted: Sequence[Accepted], clients: Iterable[ClientMetrics]) -> dict[str, Any]:
    """Return what a line of the log says of each reply: that it counts, with hash and weight, or why it does not."""
    *earlier, last = accepted
    refused = [[client.name, client.reason] for client in clients if client.status == "refused"]
    return {"accepted": last, "refused": refused} | ({"earlier_phases": earlier} if earlier else {})


def adapter_hash(adapter: Adapter) -> str:
    """Return the SHA-256 of an adapter's buffer in float32."""
    return hashlib.sha256(encode_adapter(adapter)).hexdigest()
