"""The federated round: assign, collect into a spool, reduce, evaluate, commit.

A round is committed or it did not happen: everything before `Journal.commit` can be done again with the same bits,
since every random stream is keyed by names and the round, and the reduction runs in order of node name.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from common.adapters.adapter import Adapter
from common.adapters.codec import encode
from common.errors import JournalError
from common.protocol.announcement import Announcement
from common.protocol.messages import Order
from common.protocol.payload import Letter
from server.algorithms import Settings, Weighted, create
from server.algorithms.state import State
from server.rounds import quorum
from server.rounds.collect import Call, collect, losses
from server.rounds.exactness import exactness
from server.rounds.messenger import Exchange
from server.rounds.metrics import ClientRecord, Exactness, Measured, round_record
from server.rounds.observer import Observer
from server.rounds.participants import Members, cohort
from server.rounds.run_settings import Plan
from server.storage.journal import Journal

Test = Callable[[Adapter], Measured]
"""Loss and accuracy of a global update on test rows that the run's owner holds."""

Publish = Callable[[Adapter, Announcement], None]
"""Takes each committed global update, and what a node says of the modules in it."""


class Rounds:
    """One run, from its last committed round to its end."""

    def __init__(
        self,
        exchange: Exchange,
        plan: Plan,
        journal: Journal,
        observer: Observer,
        publish: Publish,
        test: Test | None = None,
    ) -> None:
        """Join the nodes that are connected.

        Raises:
            JournalError: the journal belongs to other settings or another base.
            RunError: no node answered.
        """
        self._exchange, self._plan, self._journal, self._observer = exchange, plan, journal, observer
        self._publish = publish
        self._test: Test = test or (lambda adapter: Measured())
        nothing: dict[str, Any] = {"base": "", "max_rank": 0, "config": plan.config}
        first = journal.entries[0] if journal.entries else nothing
        if first["config"] != plan.config:
            raise JournalError(f"the run began with settings {first['config']}, these are {plan.config}; use its own")
        self._members = Members(first["base"], first["max_rank"])
        self._meet()
        self._members.check_some()
        ranks = (*(node.rank for node in self.nodes.values()), self._members.max_rank)
        head = frozenset(module.name for module in self._any_node().head)
        self._algorithm = create(Settings(plan.seed, ranks, plan.lora, plan.server, head))
        self._losses: Mapping[str, float] = journal.entries[-1]["held_out"] if journal.entries else {}

    @property
    def nodes(self) -> Mapping[str, Announcement]:
        """The nodes that take part, by name."""
        return self._members.nodes

    def run(self) -> State:
        """The state after the last round.

        Raises:
            RunError: a round had too few updates in every attempt, or could not be written.
        """
        self._observer.started(self._plan.train.rounds, max(0, len(self._journal.entries) - 1))
        state = self._committed() if self._journal.entries else self._begin()
        while state.round < self._plan.train.rounds:
            state = self._round(state)
        return state

    def _meet(self) -> None:
        targets = self._plan.lora.targets
        self._members.meet(self._exchange, {"targets": targets if isinstance(targets, str) else list(targets)})

    def _committed(self) -> State:
        """The state of the last round, as its checkpoint has it, once its global update is published."""
        state = self._journal.last_state()
        self._publish(self._algorithm.broadcast(state).astype("f4"), self._any_node())
        return state

    def _any_node(self) -> Announcement:
        """All nodes of a run have the same modules; their fingerprints say so."""
        return next(iter(self.nodes.values()))

    def _begin(self) -> State:
        began = time.monotonic()
        state = self._algorithm.initial(self._any_node().shapes)
        return self._commit(state, self._cohort(1), Exactness(), began)

    def _round(self, state: State) -> State:
        """The state after the first attempt that has a quorum; one that has none leaves everything as it was."""
        for attempt in range(1, self._plan.attempts + 1):
            self._meet()
            began = time.monotonic()
            clients = self._cohort(state.round + 1)
            updates = self._collect(state, clients, attempt) if len(clients) >= self._plan.quorum else []
            if len(updates) >= self._plan.quorum:
                after = self._algorithm.reduce(state, updates, self._journal.keep)
                return self._commit(after, clients, exactness(self._algorithm, state, after, updates), began)
            self._abandon(state.round + 1, attempt, clients)
        self._members.check_some()
        raise quorum.too_few(state.round + 1, clients, self._plan.quorum, self._plan.attempts)

    def _abandon(self, number: int, attempt: int, clients: Mapping[str, ClientRecord]) -> None:
        self._observer.round_abandoned(number, attempt, quorum.reasons(clients))
        if attempt < self._plan.attempts:
            time.sleep(quorum.PAUSE * attempt)

    def _cohort(self, number: int) -> dict[str, ClientRecord]:
        names = cohort(list(self.nodes), self._plan.server.cohort, self._plan.seed, number)
        nodes = [self.nodes[name] for name in names]
        return {n.name: ClientRecord(n.name, n.rank, n.rows, loss_before=self._losses.get(n.name)) for n in nodes}

    def _collect(self, state: State, clients: Mapping[str, ClientRecord], attempt: int) -> list[Weighted]:
        number = state.round + 1
        self._observer.round_started(number, len(clients))
        ranks = sorted({client.rank for client in clients.values()})
        assignments = {rank: self._algorithm.assign(state, rank) for rank in ranks}
        call = Call(self._order(state, number, attempt), self._plan.training(number), assignments)
        asked = {self._members.ids[name]: client for name, client in clients.items()}
        rule, done = self._plan.server.weights, self._observer.client_done
        return collect(self._exchange, call, asked, self._journal.spool_path, rule, done)

    def _order(self, state: State, number: int, attempt: int = 1) -> Order:
        return Order(
            self._plan.config, number, adapter_hash(self._algorithm.broadcast(state)), self._members.base, attempt
        )

    def _commit(self, state: State, clients: dict[str, ClientRecord], exact: Exactness, began: float) -> State:
        """The state once it is written, after the new global update is measured on held-out rows and test rows."""
        following = self._cohort(state.round + 1) if state.round < self._plan.train.rounds else {}
        self._losses = self._evaluate(state, {*clients, *following}, clients)
        for client in clients.values():
            client.loss_after = self._losses.get(client.name)
        tested = self._test(self._algorithm.broadcast(state))
        everyone = [*clients.values(), *self._members.refused()]
        record = round_record(state.round, time.monotonic() - began, tested, exact, everyone)
        entry = {
            "adapter_hash": adapter_hash(self._algorithm.broadcast(state)),
            "base": self._members.base,
            "config": self._plan.config,
            "max_rank": self._members.max_rank,
            "held_out": self._losses,
            "metrics": record,
        }
        self._journal.commit(state, entry)
        committed = self._committed()
        self._observer.round_committed(record)
        return committed

    def _evaluate(self, state: State, names: set[str], clients: Mapping[str, ClientRecord]) -> dict[str, float]:
        letter = Letter(vars(self._order(state, state.round)), encode(self._algorithm.broadcast(state)))
        by_id = {self._members.ids[name]: name for name in sorted(names & self.nodes.keys())}
        self._observer.evaluating(len(by_id))
        for name in names & self.nodes.keys() & clients.keys():
            clients[name].bytes_down += len(letter.blob)
        return losses(self._exchange, by_id, letter, state.round)


def adapter_hash(adapter: Adapter) -> str:
    """SHA-256 of an adapter's buffer in float32."""
    return hashlib.sha256(encode(adapter)).hexdigest()
