"""An attack on replies: which of many candidate rows were behind a gradient or an increment of B under a shared A?

The attacker has what the operator of a server has: the base, A, the labels and the reply; and the candidates, of which
each is a member of the training or not. It computes each candidate's own gradient, and scores the candidate by

    cosine    of that gradient with the reply (an increment is its opposite)
    unmixed   its coefficient in the least-squares fit of the reply by all candidates' gradients
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from client.data.files.source import read_rows
from client.model.targets import find_targets
from client.node import attach_lora, load_node_base, read_examples
from client.objectives.examples import subset
from client.questions.closed_form_head import class_sums
from client.settings import read_node
from client.training.gradient_exchange import exchange_gradient
from client.training.passes import Passes
from client.training.train import train
from common.adapters.adapter import Adapter, Array, Factors
from common.protocol.assignment import Assignment, Training
from server.algorithms.increments import orthonormal_rows
from tests.helpers.client.nodes import write_node
from tests.helpers.common.models import random_adapter

RANK, RATE, SEED = 8, 1e-2, 5


@dataclass(frozen=True)
class Found:
    """What an attack finds, as means over its trials.

    Args:
        auc: chance that a member has a higher score than another candidate, by each score.
        top: how often the candidate of the highest score is a member.
    """

    auc: dict[str, float]
    top: dict[str, float]


class Attack:
    """A node's rows as candidates, and replies made from some of them.

    Args:
        folder: for the node's files.
        kind: of reply that the candidates' own are compared with: `gradient`, `means` (class sums), or `lda` (also the
            Gram matrix).
    """

    def __init__(self, folder: Path, kind: str = "gradient") -> None:
        node = read_node(write_node(folder, rows=400))
        self._base = load_node_base(node)
        targets = tuple(find_targets(self._base, "query-value"))
        self._base, self._lora = attach_lora(self._base, targets)
        self.candidates = read_examples(node, read_rows(Path(node.data.path)), Path(node.data.path))
        self._classes = len(node.data.labels)
        own = {"gradient": self.gradient, "means": self.class_sums, "lda": partial(self.class_sums, gram=True)}[kind]
        self._own = np.stack([own([index]) for index in range(len(self.candidates))])

    def gradient(self, members: list[int]) -> Array:
        """Return the exact gradient of B over these rows, as `fedsgd` sends it where it is sent whole."""
        asked = replace(self._start(), returns="compressed-gradient", reply_rank=RANK)
        rows = subset(self.candidates, members)
        training = Training((RATE,), 16, draw=len(members))
        passes = Passes(self._base, self._lora, asked, "node", rows, training, scale=1.0)
        reply = exchange_gradient(passes, {})
        return _flat({name: factors.b for name, factors in reply.gradient.items()})

    def class_sums(self, members: list[int], gram: bool = False) -> Array:
        """Return the class sums of these rows, and their Gram matrix, as for a head in closed form."""
        adapter = random_adapter(self._lora.shapes, (RANK,), SEED)
        rows = subset(self.candidates, members)
        sums, _ = class_sums(self._base, self._lora, adapter, rows, self._classes, gram)
        triangle = [] if sums.gram is None else [sums.gram[np.triu_indices(len(sums.gram))]]
        return np.concatenate([sums.classes.ravel(), *triangle])

    def increment(self, members: list[int], steps: int) -> Array:
        """Return B after steps of AdamW in batches of 16 of these rows, as `increments` sends it in mode "b"."""
        rows, training = subset(self.candidates, members), Training((RATE,) * steps, 16)
        (update,) = train(self._base, self._lora, [self._start()], ["node"], [rows], training)
        return -_flat({name: factors.b for name, factors in update.adapter.items()})

    def find(self, reply, rows: int, trials: int) -> Found:
        """Return what the attack finds in `reply(members)` of this many members, drawn in each trial."""
        random, found = np.random.default_rng(SEED), []
        for _ in range(trials):
            is_member = np.zeros(len(self.candidates), bool)
            is_member[random.choice(len(is_member), rows, replace=False)] = True
            scores = self._scores(reply(np.flatnonzero(is_member).tolist()))
            found.append({name: (auc(each, is_member), is_member[each.argmax()]) for name, each in scores.items()})
        means = {name: np.mean([each[name] for each in found], 0) for name in found[0]}
        return Found({name: float(m[0]) for name, m in means.items()}, {name: float(m[1]) for name, m in means.items()})

    def _scores(self, reply: Array) -> dict[str, Array]:
        cosine = self._own @ reply / np.linalg.norm(self._own, axis=1) / np.linalg.norm(reply)
        return {"cosine": cosine, "unmixed": np.linalg.lstsq(self._own.T, reply, rcond=1e-6)[0]}

    def _start(self) -> Assignment:
        draws = np.random.default_rng(SEED)
        start = {}
        for name, (d, k) in self._lora.shapes.items():
            rank = min(RANK, d, k)
            a = orthonormal_rows(draws.standard_normal((rank, k))).astype("f4")
            start[name] = Factors(a, np.zeros((d, rank), "f4"))
        # Of a later round: a new head is 0 before the first one, and no gradient gets past it.
        frozen = random_adapter(self._lora.shapes, (RANK,), SEED)
        return Assignment(frozen, Adapter(start), "b")


def auc(scores: Array, is_member: Array) -> float:
    """Return the chance that a member's score is above that of another; one half for an equal one."""
    ours, others = scores[is_member][:, None], scores[~is_member][None]
    return float(np.mean((ours > others) + 0.5 * (ours == others)))


def _flat(arrays) -> Array:
    return np.concatenate([arrays[name].astype("f8").ravel() for name in sorted(arrays)])
