"""The rounds of a trial: the product's rule, shares, bounds, checks and client code, without grid, journal and tests.

A simulation also measures each round on every node's own rows, which would cost more than many a round trains here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.adapters.adapter import Adapter
from common.protocol.assignment import CountedReply, Training
from common.protocol.messages import RoundId
from common.settings.recipe import Recipe
from server.algorithms import WeightedUpdate, algorithm_named, weights_of
from server.algorithms.base import Phase
from server.algorithms.state import State
from server.algorithms.weighting import ClientUpdate, find_shares, weighting_named
from server.clipping.clip import NormBound
from server.heads.fitting import Question, fit_head
from server.rounds.participants import RunModel
from server.rounds.phases import assign_to
from server.rounds.run_settings import RunSettings, algorithm_of
from server.rounds.validation import validate_reply
from simulations.plan import make_plan
from simulations.results.clients import Clients, Traffic
from simulations.results.nodes import Nodes, announced

_NOWHERE = RoundId("", 0, "", "")
"""Of questions about heads, which here cross no link."""


@dataclass(frozen=True)
class Trained:
    """Global updates of a trial.

    Args:
        begun: before the first round, with a head in closed form if the recipe has one.
        before_refit: after the last round.
        update: the same, or with the head that was made under it.
        ranks: at which each module was trained, at most.
    """

    begun: Adapter
    before_refit: Adapter
    update: Adapter
    ranks: Mapping[str, int]


def train_rounds(recipe: Recipe, nodes: Nodes, folder: Path) -> tuple[Trained, Traffic]:
    """Return the global updates of a recipe, and what was sent for them; clients keep their memories in the folder."""
    clients = Clients(nodes.nodes, folder, recipe.server, gram=recipe.lora.head == "lda")
    return _Rounds(recipe, nodes, clients).run(), clients.traffic


class _Rounds:
    """The server of a trial, which hears all clients in every round."""

    def __init__(self, recipe: Recipe, nodes: Nodes, clients: Clients) -> None:
        self._settings, self._clients, self._model = RunSettings.from_recipe(recipe), clients, nodes.model
        self._nodes, largest = nodes.nodes, max(node.settings.rank for node in nodes.nodes.values())
        server = recipe.server
        plan = make_plan(recipe, nodes.model, nodes.nodes)
        self._ranks = dict(plan.ranks) if plan else dict.fromkeys(nodes.model.shapes, largest)
        self._algorithm = algorithm_of(self._settings, RunModel(nodes.model, largest, ranks=plan.ranks if plan else {}))
        self._rule = weighting_named(weights_of(server))
        self._bound = NormBound(server.norm_bound, algorithm_named(server.algorithm).averages_apart)
        self._rows = {name: announced(node) for name, node in nodes.nodes.items()}
        self._norms: dict[int, list[float]] = {}
        self._counted: dict[str, CountedReply] = {}
        self._begun = dict.fromkeys(nodes.nodes, 0)

    def run(self) -> Trained:
        """Return the global updates before the first round and after the last."""
        state = begun = self._with_head(self._algorithm.initial(self._model.shapes))
        while state.round < self._settings.train.rounds:
            state = self._round(state)
        first, last, refitted = map(self._algorithm.broadcast_update, (begun, state, self._with_head(state)))
        return Trained(first, last, refitted, self._ranks)

    def _round(self, state: State) -> State:
        phases, number = self._algorithm.round(state), 1
        phase = next(phases)
        while True:
            try:
                phase, number = phases.send(self._exchange(phase, state.round + 1, number)), number + 1
            except StopIteration as end:
                after: State = end.value
                return after

    def _with_head(self, state: State) -> State:
        """Return the state with the head in closed form that the recipe has, where it is better."""
        kind = self._settings.lora.head
        if kind == "trained":
            return state
        update, last = self._algorithm.broadcast_update(state), self._algorithm.settings.last
        names = dict(enumerate(sorted(self._nodes)))
        asked = Question(names, _NOWHERE, update, last, kind, len(names), begins=state.round == 0)
        fitted = fit_head(self._clients, asked, lambda name: None)
        return self._algorithm.with_head(state, fitted.factors) if fitted.is_kept else state

    def _exchange(self, phase: Phase, number: int, place: int) -> list[WeightedUpdate]:
        round_id = RoundId(self._settings.config, number, "", self._model.fingerprint, phase=place)
        trainings = self._trainings(phase, number, place)
        updates = [self._ask(name, phase, round_id, trainings[name]) for name in sorted(self._nodes)]
        rates, earlier = self._settings.training(number).learning_rates, self._norms.setdefault(place, [])
        clipped = self._bound.clip(updates, rates, earlier)
        earlier += [update.norm for update in updates]
        self._counted |= {each.name: CountedReply(number, each.update, each.clip) for each in clipped}
        shares = find_shares(clipped, self._rule, self._settings.server.max_share)
        return [update.weighted(share) for update, share in zip(clipped, shares, strict=True)]

    def _trainings(self, phase: Phase, number: int, place: int) -> dict[str, Training]:
        """Return each client's settings; of an exchange of gradients, by the rows that the clients have."""
        if phase.memory_begins is None:
            common = self._settings.training(number)
            return dict.fromkeys(self._nodes, Training(**vars(common) | {"phase": place}))
        rows = {name: 1 if self._rule is weighting_named("uniform") else n for name, (n, _) in self._rows.items()}
        return dict(self._settings.exchange(number, rows, lambda name: None, self._begun, phase.memory_begins))

    def _ask(self, name: str, phase: Phase, round_id: RoundId, training: Training) -> ClientUpdate:
        rank = self._nodes[name].settings.rank
        key = self._settings.seed, round_id.round, round_id.phase
        assignment = assign_to(phase, self._model.shapes, self._settings.server.wire, key, name, rank)
        last = self._counted.get(name, CountedReply())
        fresh = phase.memory_begins is not None and last.counted_round <= phase.memory_begins
        reply = self._clients.answer(name, round_id, assignment, training, CountedReply() if fresh else last)
        valid = validate_reply(reply, round_id, assignment, training)
        self._begun[name] += valid.values.examples
        values, own = valid.values, (name, rank, valid.values.examples, valid.values.tokens, valid.adapter)
        return ClientUpdate(
            *own, assignment, valid.norm, update=reply.blob_hash, predictions=self._rows[name][1], noise=values.noise
        )
