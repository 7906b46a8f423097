"""The plan of a recipe with a budget, made by its clients in this process: the ranks that a run begins with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from client.node import LocalNode, attach_lora
from client.questions.answer import answer_question
from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter
from common.huggingface.model_description import ModelDescription
from common.huggingface.start_adapter import fit_start, load_start
from common.protocol.messages import FROZEN, RoundId
from common.protocol.payload import Payload
from common.settings.recipe import Recipe, StartSettings
from server.links.ask import Nodes
from server.planning.plan import Plan
from server.rounds.participants import RunModel
from server.rounds.run_settings import RunSettings, algorithm_of, planner_of

T = TypeVar("T")
Done = Callable[[str], None]
"""Called with the name of each node that has answered."""


def make_plan(
    recipe: Recipe, model: ModelDescription, nodes: Mapping[str, LocalNode], done: Done = lambda name: None
) -> Plan | None:
    """Return the plan that these nodes give, the same as in a run of them all; None if the recipe has no budget.

    Raises:
        ConfigError: the budget is too small, or no module has a gradient.
        ModelError: a loss is not finite, or [base] adapter does not fit.
    """
    settings = RunSettings.from_recipe(recipe)
    run = RunModel(model, max(node.settings.rank for node in nodes.values()), _start(recipe.base, model))
    if (planner := planner_of(settings, run)) is None:
        return None
    algorithm = algorithm_of(settings, run)
    update = algorithm.broadcast_update(algorithm.initial(model.shapes, run.start))
    names, round_id = dict(enumerate(sorted(nodes))), RoundId(settings.config, 0, "", model.fingerprint)
    return planner.plan(_InProcess(nodes, done), names, round_id, update, model)


def _start(base: StartSettings, model: ModelDescription) -> Adapter:
    """Return the update at which a new run begins."""
    return fit_start(load_start(base), base.adapter, model) if base.adapter else Adapter()


@dataclass(frozen=True)
class _InProcess:
    """Asks nodes without a link."""

    nodes: Mapping[str, LocalNode]
    done: Done

    def ask(
        self, nodes: Nodes, round_id: RoundId, payload: Payload, read: Callable[[Payload], T], what: str
    ) -> Iterator[tuple[str, T]]:
        """Yield name and answer of each node."""
        update = decode_adapter(payload.parts[FROZEN])
        for name in nodes.values():
            node = self.nodes[name]
            attached = attach_lora(node.base, tuple(update))
            yield name, read(Payload(*answer_question(node, *attached, update, round_id, payload)))
            self.done(name)
