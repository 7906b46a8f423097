"""What a server asks beside training, from request to reply: for a head in closed form, or for energies of modules."""

import logging
from collections import Counter

from client.model.base_model import BaseModel
from client.model.lora import Lora
from client.node import LocalNode
from client.policy import draw_violation, sums_violation
from client.questions.head_exchange import Reply, answer_for_head
from client.questions.module_energies import base_parameters, module_energies
from common.adapters.adapter import Adapter
from common.errors import TransportError
from common.heads.requests import ASKS
from common.log_format import event
from common.planning.requests import BATCHES, MODULE_ENERGIES, EnergiesReply
from common.protocol.assignment import Training
from common.protocol.messages import RoundId
from common.protocol.payload import Payload
from common.settings.node import Policy

log = logging.getLogger(__name__)
MOST_ROUNDS, MOST_REQUESTS = 2, 16
"""Rounds of a run in which a node answers questions, and questions in each: the server may start again."""


class Questions:
    """The questions of each run that this process has answered, by round."""

    def __init__(self) -> None:
        self._runs: dict[str, Counter[int]] = {}

    def violation(self, policy: Policy, round_id: RoundId, asked: Payload) -> str | None:
        """Return why a question is not answered, or None; it is counted."""
        if asked.values[ASKS] != MODULE_ENERGIES and (text := sums_violation(policy)):
            return text
        rounds = self._runs.setdefault(round_id.run, Counter())
        rounds[round_id.round] += 1
        if len(rounds) > MOST_ROUNDS or rounds[round_id.round] > MOST_REQUESTS:
            return (
                f"a run asks for a head or for energies in {MOST_ROUNDS} rounds, {MOST_REQUESTS} times each at most; "
                "this is beyond"
            )
        return None


def rows_behind(node: LocalNode, asked: Payload) -> int:
    """Return the number of different rows that the answer is made of."""
    own = len(node.train)
    return min(own, Training.from_values(asked.values).rows) if asked.values[ASKS] == MODULE_ENERGIES else own


def answer_question(
    node: LocalNode, base: BaseModel, lora: Lora, adapter: Adapter, round_id: RoundId, asked: Payload
) -> Reply:
    """Return values and buffer of the reply, and raise as `answer_for_head` or `module_energies`."""
    if asked.values[ASKS] != MODULE_ENERGIES:
        return answer_for_head(node, base, lora, adapter, round_id, asked)
    training = Training.from_values(asked.values)
    if text := _batches_violation(training) or draw_violation(training, len(node.train)):
        raise TransportError(f"energies of modules are requested, but {text}")
    energies = module_energies(base, lora, adapter, node.train, node.settings.name, training)
    what = "ranks under a budget: the clipped energy of the gradient is sent of each of %s modules"
    log.info(what, len(energies), extra=event("energies", modules=len(energies)))
    reply = EnergiesReply(
        **round_id.to_values(), energies=list(energies.values()), parameters=base_parameters(node.base)
    )
    return reply.to_values(), b""


def _batches_violation(training: Training) -> str | None:
    """Return what is wrong with another number of batches than a plan needs, or None.

    More would be a training that `max_steps` does not bound, and fewer tell more of each row.
    """
    steps = len(training.learning_rates)
    return f"of {steps} batches, and {BATCHES} are read" if steps != BATCHES else None
