"""The federated round: assign, collect into a spool, reduce, evaluate, commit.

A round is committed or it did not happen: everything before `Journal.commit` can be done again with the same bits,
since every random stream is keyed by names and the round, and the reduction runs in order of node name.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import lowrank
from common.adapter import Adapter
from common.announcement import Announcement
from common.assignment import Training
from common.codec import encode
from common.config import Lora, Server, Train
from common.errors import JournalError, RunError
from common.messages import Order
from server.algorithms import Settings, Weighted, create
from server.collect import Call, collect
from server.exchange import Exchange, Letter
from server.journal import Journal
from server.members import Members
from server.nodes import cohort
from server.observer import Observer
from server.receipt import receipt, residual
from server.record import ClientRecord, Exactness, Measured, round_record
from server.schedule import learning_rates
from server.state import State

Test = Callable[[Adapter], Measured]
"""Loss and accuracy of a global update on test rows that the run's owner holds."""

Publish = Callable[[Adapter, Announcement], None]
"""Takes each committed global update, and what a node says of the modules in it."""


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do; `config` is the hash of the settings that it came from."""

    seed: int
    lora: Lora
    train: Train
    server: Server
    config: str


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
            RunError: every client of a round was refused, or a round could not be written.
        """
        self._observer.started(self._plan.train.rounds, max(0, len(self._journal.entries) - 1))
        state = self._resume() if self._journal.entries else self._begin()
        while state.round < self._plan.train.rounds:
            self._meet()
            state = self._round(state)
        return state

    def _meet(self) -> None:
        targets = self._plan.lora.targets
        self._members.meet(self._exchange, {"targets": targets if isinstance(targets, str) else list(targets)})
        if self.nodes:
            return
        if others := self._members.other_bases():
            raise JournalError(
                f"the run's base, tokenizer, targets or labels have fingerprint {self._members.base}, the nodes "
                f"have {', '.join(others)}; give them what the run began with"
            )
        raise RunError("no node answered; start the clients and run again with --resume")

    def _resume(self) -> State:
        state = self._journal.last_state()
        self._publish(self._broadcast(state), self._any_node())
        return state

    def _any_node(self) -> Announcement:
        """All nodes of a run have the same modules; their fingerprints say so."""
        return next(iter(self.nodes.values()))

    def _begin(self) -> State:
        began = time.monotonic()
        state = self._algorithm.initial(self._any_node().shapes)
        self._commit(state, self._cohort(1), Exactness(), began)
        return state

    def _round(self, state: State) -> State:
        began = time.monotonic()
        clients = self._cohort(state.round + 1)
        self._observer.round_started(state.round + 1, len(clients))
        updates = self._collect(state, clients)
        after = self._algorithm.reduce(state, updates)
        self._commit(after, clients, self._exactness(state, after, updates), began)
        return after

    def _cohort(self, number: int) -> dict[str, ClientRecord]:
        names = cohort(list(self.nodes), self._plan.server.cohort, self._plan.seed, number)
        nodes = [self.nodes[name] for name in names]
        return {n.name: ClientRecord(n.name, n.rank, n.rows, loss_before=self._losses.get(n.name)) for n in nodes}

    def _collect(self, state: State, clients: Mapping[str, ClientRecord]) -> list[Weighted]:
        ranks = sorted({client.rank for client in clients.values()})
        assignments = {rank: self._algorithm.assign(state, rank) for rank in ranks}
        call = Call(self._order(state, state.round + 1), self._training(state.round + 1), assignments)
        cohort = {self._members.ids[name]: client for name, client in clients.items()}
        rule, done = self._plan.server.weights, self._observer.client_done
        updates = collect(self._exchange, call, cohort, self._journal.spool_path, rule, done)
        if not updates:
            reasons = ", ".join(f"{client.name}: {client.reason}" for client in clients.values())
            raise RunError(
                f"every client of round {call.order.round} was refused ({reasons}); round {state.round} is intact: "
                "mend the cause, then run again with --resume"
            )
        return updates

    def _order(self, state: State, number: int) -> Order:
        return Order(self._plan.config, number, adapter_hash(self._broadcast(state)), self._members.base)

    def _training(self, number: int) -> Training:
        train, lora = self._plan.train, self._plan.lora
        return Training(
            learning_rates(train, number),
            train.batch,
            train.accumulate,
            train.clip,
            lora.dropout,
            train.checkpointing,
            self._plan.seed,
            number,
        )

    def _exactness(self, before: State, after: State, updates: Sequence[Weighted]) -> Exactness:
        starts = {u.rank: self._algorithm.assign(before, u.rank).start for u in updates}
        mass, broadcast, lost = self._algorithm.mass(after), self._broadcast(after), self._algorithm.lost(after)
        exact = receipt(self._algorithm.mass(before), mass, lost, updates, starts)
        dropped = after.dropped / lowrank.total_norm(mass.values()) if after.dropped else 0.0
        return Exactness(exact, residual(mass, broadcast), dropped, broadcast.rank)

    def _commit(self, state: State, clients: dict[str, ClientRecord], exactness: Exactness, began: float) -> None:
        """Measure the new global update on the nodes' held-out rows and on the test rows, then write the round."""
        following = self._cohort(state.round + 1) if state.round < self._plan.train.rounds else {}
        self._losses = self._evaluate(state, {*clients, *following}, clients)
        for client in clients.values():
            client.loss_after = self._losses.get(client.name)
        tested = self._test(self._broadcast(state))
        everyone = [*clients.values(), *self._members.refused()]
        record = round_record(state.round, time.monotonic() - began, tested, exactness, everyone)
        entry = {
            "adapter_hash": adapter_hash(self._broadcast(state)),
            "base": self._members.base,
            "config": self._plan.config,
            "max_rank": self._members.max_rank,
            "held_out": self._losses,
            "metrics": record,
        }
        self._journal.commit(state, entry)
        self._publish(self._broadcast(state), self._any_node())
        self._observer.round_committed(record)

    def _evaluate(self, state: State, names: set[str], clients: Mapping[str, ClientRecord]) -> dict[str, float]:
        """Each node's loss under the new global update, on rows it does not train on."""
        blob = encode(self._broadcast(state))
        letter = Letter(vars(self._order(state, state.round)), blob)
        by_id = {self._members.ids[name]: name for name in sorted(names & self.nodes.keys())}
        self._observer.evaluating(len(by_id))
        losses = {}
        for node, reply in self._exchange.ask("evaluate", dict.fromkeys(by_id, letter), state.round):
            loss = reply.values.get("loss") if isinstance(reply, Letter) else None
            if isinstance(loss, float) and math.isfinite(loss):
                losses[by_id[node]] = loss
            if by_id[node] in clients:
                clients[by_id[node]].bytes_down += len(blob)
        return dict(sorted(losses.items()))

    def _broadcast(self, state: State) -> Adapter:
        return Adapter(self._algorithm.broadcast(state))


def adapter_hash(adapter: Adapter) -> str:
    """SHA-256 of an adapter's buffer in float32."""
    return hashlib.sha256(encode(adapter)).hexdigest()
