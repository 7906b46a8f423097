"""Evaluation of a global update: by the nodes on rows that they hold out, by the run's owner on test rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.protocol.messages import FROZEN, RejectionReason, RoundId
from common.protocol.payload import Payload
from common.protocol.replies import LossReply
from common.protocol.values import InvalidValue
from common.report.records import BY_PROBLEM
from common.settings.evaluation import evaluation_interval
from server.links.grace import Grace
from server.links.links import Links
from server.metrics.clients import ClientMetrics, OwedBytes
from server.metrics.rounds import TestScore
from server.rounds.cohorts import Cohorts
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants
from server.rounds.run_settings import RunSettings


@dataclass(frozen=True)
class Test:
    """The test rows that the run's owner holds.

    Args:
        rows: number of them.
        measure: returns loss and score of a global update on them.
    """

    rows: int = 0
    measure: Callable[[Adapter], TestScore] = lambda adapter: TestScore()


class Evaluator:
    """Evaluates the global updates of a run.

    Args:
        settings: of the run.
        participants: of the run.
        cohorts: that they form.
        links: to them.
        owed: takes the bytes that they are sent.
        observer: told of each evaluation.
        test: the owner's rows.
        losses: of the nodes on the global update that is now, by name.
    """

    def __init__(
        self,
        settings: RunSettings,
        participants: Participants,
        cohorts: Cohorts,
        links: Links,
        owed: OwedBytes,
        observer: RunObserver,
        test: Test,
        losses: Mapping[str, float],
    ) -> None:
        self._settings, self._participants, self._cohorts = settings, participants, cohorts
        self._links, self._owed, self._observer, self._test = links, owed, observer, test
        self._score = BY_PROBLEM[participants.model.description.problem_type].key
        self.losses = losses

    def measure(
        self, update: Adapter, round_id: RoundId, clients: Mapping[str, ClientMetrics], phases: int
    ) -> TestScore:
        """Let nodes and owner evaluate a global update where it is its turn; the records of clients get the losses.

        Args:
            update: the global update.
            round_id: of the state that has it.
            clients: of the round that made it.
            phases: of each round.
        """
        tested, self.losses = TestScore(measures={self._score: None}), {}
        if self._is_turn(round_id.round, phases):
            self.losses = self._ask(update, round_id, {*clients, *self._following(round_id.round)})
            measured = self._test.measure(update)
            tested = replace(measured, measures={**tested.measures, **measured.measures})
        for client in clients.values():
            client.loss_after = self.losses.get(client.name)
        return tested

    def _is_turn(self, number: int, phases: int) -> bool:
        train, server = self._settings.train, self._settings.server
        rows = [node.rows for node in self._participants.nodes.values()]
        interval = evaluation_interval(train, server, rows, self._test.rows, phases)
        return number % interval == 0 or number == train.rounds

    def _following(self, number: int) -> tuple[str, ...]:
        """Return the nodes that train next, which begin at this update."""
        return self._cohorts.training(number + 1) if number < self._settings.train.rounds else ()

    def _ask(self, update: Adapter, round_id: RoundId, names: set[str]) -> dict[str, float]:
        """Return the nodes' losses on the rows that they hold out, by name."""
        payload = Payload(round_id.to_values(), parts={FROZEN: encode_adapter(update)})
        nodes = {number: name for number, name in self._cohorts.awake(round_id.round).items() if name in names}
        waiting = self._cohorts.waiting(round_id.round, enough=1)
        grace = waiting.grace()
        self._observer.on_evaluating(len(nodes))
        losses, sent = collect_losses(self._links, nodes, payload, round_id, grace)
        waiting.take(nodes, grace)
        for name in sent:
            self._owed.owe(name, {"evaluation": sent[name]})
        return losses


def collect_losses(
    links: Links, cohort: Mapping[int, str], payload: Payload, round_id: RoundId, grace: Grace
) -> tuple[dict[str, float], dict[str, int]]:
    """Return each node's loss by name, in order of name, and the bytes that each was sent.

    A node without a finite loss in its reply has none.

    Args:
        links: send the payload.
        cohort: names of the nodes to ask, by Flower's number.
        payload: the global update and the round id.
        round_id: the same round id.
        grace: for nodes that report nothing; told of each loss.
    """
    found, sent = {}, {}
    for node, reply, size in links.request("evaluate", dict.fromkeys(cohort, payload), round_id.round, grace):
        sent[cohort[node]] = sum(size.values())
        if (loss := _loss(reply, round_id)) is not None:
            found[cohort[node]] = loss
            grace.count()
    return dict(sorted(found.items())), sent


def _loss(reply: Payload | RejectionReason, round_id: RoundId) -> float | None:
    try:
        valid = LossReply.from_values(reply.values) if isinstance(reply, Payload) else None
    except InvalidValue:
        return None
    return valid.loss if valid and valid.is_of(round_id) else None
