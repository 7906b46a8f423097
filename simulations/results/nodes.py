"""The nodes of a trial in memory, with the rows that they train on, and the rows that are held out from all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from client.data.rows import Row
from client.node import LocalNode, describe_model, read_examples
from client.objectives.examples import Examples, split_held_out
from common.huggingface.model_description import ModelDescription
from common.settings.node import Node
from common.settings.recipe import Recipe
from simulations.corpora.corpus import CorpusRow
from simulations.partition import hold_out
from simulations.prepare import prepare


@dataclass(frozen=True, eq=False)
class Nodes:
    """A trial's nodes by name, what they train, and the rows to test and to choose rates on."""

    nodes: dict[str, LocalNode]
    model: ModelDescription
    test: Examples
    valid: Examples


def load_nodes(recipe: Recipe, valid_rows: int, pooled: bool) -> Nodes:
    """Deal the rows out as a simulation does; `pooled` gives all training rows to one node of the largest rank."""
    prepared = prepare(recipe)
    label = recipe.data.label if prepared.nodes[0].data.labels else None
    test, valid = hold_out(prepared.test_rows, valid_rows, recipe.seed, label)
    own = {node.name: _node(node, shard.rows) for node, shard in zip(prepared.nodes, prepared.shards, strict=True)}
    settings, model = prepared.nodes[0], describe_model(prepared.nodes[0], recipe.lora.targets)
    nodes = {"pool": _pool(list(own.values()))} if pooled else own
    return Nodes(nodes, model, _examples(settings, test), _examples(settings, valid))


def announced(node: LocalNode) -> tuple[int, int]:
    """Return the rows and predictions that a node announces."""
    return len(node.train) + len(node.held), node.predictions


def _examples(node: Node, rows: Sequence[CorpusRow]) -> Examples:
    return read_examples(node, [Row(number, row) for number, row in enumerate(rows, 1)], Path(node.name))


def _node(node: Node, rows: Sequence[CorpusRow]) -> LocalNode:
    return LocalNode(node, *split_held_out(_examples(node, rows), node.name))


def _pool(nodes: Sequence[LocalNode]) -> LocalNode:
    train, held = (
        replace(getattr(nodes[0], part), rows=tuple(row for node in nodes for row in getattr(node, part).rows))
        for part in ("train", "held")
    )
    rank = max(node.settings.rank for node in nodes)
    return LocalNode(replace(nodes[0].settings, name="pool", rank=rank), train, held)
