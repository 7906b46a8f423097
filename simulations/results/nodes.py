"""The nodes of a trial in memory, with the rows that they train on, and the rows that are held out from all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.data.batches import Batch
from client.data.rows import Row
from client.node import LocalNode, describe_model, read_examples
from client.objectives.base import Measured, Model
from client.objectives.classification import Classification
from client.objectives.examples import Examples, split_held_out
from common.huggingface.model_description import ModelDescription
from common.seeding import rng
from common.settings.node import Node
from common.settings.recipe import Recipe
from simulations.corpora.corpus import CorpusRow, to_jsonl
from simulations.corpora.splits import draw_groups, group_by_prompt
from simulations.partition.split import Shard, hold_out
from simulations.prepare import prepare


@dataclass(frozen=True, eq=False)
class Nodes:
    """A trial's nodes by name, what they train, the rows to test and to choose rates on, and the hash of all rows."""

    nodes: dict[str, LocalNode]
    model: ModelDescription
    test: Examples
    valid: Examples
    rows_sha256: str


@dataclass(frozen=True)
class Calibrated(Classification):
    """Cross-entropy of the logits plus `prior`, the logarithm of how often the node has each label (C,).

    The logits themselves then need not learn how rare the labels are on this node (arXiv 2007.07314, section 4;
    in federations 2209.00189). No part of the product: it changes what a node reports of its loss.
    """

    prior: Any = None

    def measure(self, model: Model, batch: Batch) -> Measured:
        """Return the cross-entropy of the calibrated logits."""
        logits = model(batch).float() + self.prior
        return Measured(torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum"))


def load_nodes(recipe: Recipe, valid_rows: int, pooled: bool = False, calibrated: bool = False) -> Nodes:
    """Deal the rows out as a simulation does.

    Args:
        recipe: of the trial.
        valid_rows: rows of its test set on which rates are chosen.
        pooled: one node of the largest rank has all training rows.
        calibrated: nodes train calibrated logits.
    """
    prepared = prepare(recipe)
    label = recipe.data.label if prepared.nodes[0].data.labels else None
    test, valid = _held_out(prepared.test_rows, valid_rows, recipe, label)
    own = {node.name: _node(node, shard.rows) for node, shard in zip(prepared.nodes, prepared.shards, strict=True)}
    settings, model = prepared.nodes[0], describe_model(prepared.nodes[0], recipe.lora.targets)
    if calibrated:
        own = {name: replace(node, train=_calibrate(node.train)) for name, node in own.items()}
    nodes = {"pool": _pool(list(own.values()))} if pooled else own
    rows = sorted(to_jsonl([row]) for shard in (*prepared.shards, Shard("", prepared.test_rows)) for row in shard.rows)
    return Nodes(
        nodes, model, _examples(settings, test), _examples(settings, valid), sha256(b"".join(rows)).hexdigest()
    )


def _held_out(
    rows: Sequence[CorpusRow], count: int, recipe: Recipe, label: str | None
) -> tuple[Sequence[CorpusRow], Sequence[CorpusRow]]:
    """Return the rows to test on, and at most `count` to choose rates on, all completions of a prompt in one part."""
    groups = group_by_prompt(dict(enumerate(rows)), recipe.data.prompt)
    if label or len(groups) == len(rows):
        return hold_out(rows, count, recipe.seed, label)
    chosen = set(draw_groups(groups, count, rng(recipe.seed, "validation"))) or set(groups[0])
    test, valid = (tuple(row for n, row in enumerate(rows) if (n in chosen) is own) for own in (False, True))
    return test, valid


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


def _calibrate(rows: Examples) -> Examples:
    """Return the rows with the calibrated objective; each label counts once more than it occurs."""
    labels = [each.targets for each in rows.rows]  # type: ignore[attr-defined]
    counts = np.bincount(labels, minlength=len(rows.objective.data.labels)) + 1
    prior = torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)
    return replace(rows, objective=Calibrated(rows.objective.data, prior))
