"""What the clients of a recipe would read, dealt out as a run does."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from client.checking.advice import Advice, advise
from client.checking.checked import Checked
from client.checking.label_counts import Counts, spread_of_labels
from client.data.reading_progress import watching
from client.data.rows import Row
from client.model.targets import find_targets
from client.node import load_node_base, read_examples
from client.objectives.examples import Examples
from common.settings.node import Node
from common.settings.recipe import Recipe
from simulations.prepare import prepare
from simulations.recipe import read_recipe

_SKEWED = 0.5
"""Share of the labels that a client has, on average, below which local steps cancel out."""
_TEST = "test"


def check_recipe(file: Path, assignments: list[str]) -> tuple[Checked, tuple[Advice, ...]]:
    """Read all that the clients of a recipe would read, and return it with what to change.

    Args:
        file: the recipe.
        assignments: each `KEY.KEY=VALUE`.

    Raises:
        FedloraError: as a run would.
    """
    recipe = read_recipe(file, assignments)
    torch.set_num_threads(recipe.threads)
    source = Path(recipe.data.path or f"corpus {recipe.data.corpus}")
    with watching(source) as watch:
        prepared = prepare(recipe, watch)
    node = prepared.nodes[0]
    trained = {shard.name: _encoded(node, shard.rows, source) for shard in prepared.shards}
    held = {_TEST: _encoded(node, prepared.test_rows, source)} if prepared.test_rows else {}
    targets = find_targets(load_node_base(node), recipe.lora.targets)
    checked = Checked(prepared.source, node, targets, trained, held, prepared.found)
    return checked, (*advise(checked, "[data] ", "[base] "), *_skew(checked, recipe))


def _encoded(node: Node, rows: Sequence[Mapping[str, Any]], source: Path) -> Examples:
    return read_examples(node, _rows(rows), source)


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [Row(number, fields) for number, fields in enumerate(rows, 1)]


def _skew(checked: Checked, recipe: Recipe) -> Iterator[Advice]:
    """Yield the rule that learns where clients have few of the labels."""
    counts = checked.labels
    own = Counts(counts.rows, tuple(checked.trained), tuple(row[: len(checked.trained)] for row in counts.cells))
    if counts.rows and recipe.server.algorithm != "fedsgd" and (share := spread_of_labels(own)) < _SKEWED:
        why = f"a client has rows of {share:.0%} of the labels on average: local steps cancel out, gradients add up"
        yield Advice('[server] algorithm = "fedsgd"', why)
