"""A node, as described by its own file: its data, tokenised once, and the frozen base that it trains on."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

from client.data.rows import Row, read_rows
from client.model.base_model import BaseModel, load_base
from client.model.lora import Lora
from client.model.targets import find_targets
from client.objectives.examples import Examples, count_predictions, encode_rows, split_held_out
from client.settings import read_node
from common.adapters.adapter import Shapes
from common.errors import ConfigError
from common.huggingface.fingerprint import fingerprint
from common.huggingface.model_description import ModelDescription
from common.protocol.announcement import Announcement
from common.settings.node import Node
from common.settings.tasks import TASKS

_THREAD = threading.local()
_TOKENIZING = threading.Lock()
"""Held while tokenising: a fast tokenizer stores its truncation as state, which other threads would overwrite."""


@dataclass(frozen=True, eq=False)
class LocalNode:
    """A node's settings, the rows that it trains on, and the rows that it evaluates on."""

    settings: Node
    train: Examples
    held: Examples

    @property
    def base(self) -> BaseModel:
        """The frozen model, shared by all nodes of this process that name it."""
        return load_node_base(self.settings)

    @property
    def predictions(self) -> int:
        """Predictions of all rows that carry loss."""
        return count_predictions(self.train) + count_predictions(self.held)


@cache
def load_node(file: Path) -> LocalNode:
    """Load the node of a `client.toml`, once per process.

    Raises:
        ConfigError, ModelError, DataError: a setting, the base model or a row is wrong.
    """
    settings = read_node(file)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    data = Path(settings.data.path)
    return LocalNode(settings, *split_held_out(read_examples(settings, read_rows(data), data), settings.name))


def read_examples(node: Node, rows: Sequence[Row], file: Path) -> Examples:
    """Turn the rows of a file into examples for the node's base model.

    Raises:
        DataError: a row cannot be used.
        ConfigError: a row is longer than the model has positions.
    """
    base = load_node_base(node)
    with _TOKENIZING:
        examples = encode_rows(rows, node.data, base.tokenizer, file)
    longest = max(examples.lengths, default=0)
    if base.positions is not None and longest > base.positions:
        raise ConfigError(
            f"max_length = {node.data.max_length} allows a row of {longest} tokens, but {base.folder} has only "
            f"{base.positions} positions; set max_length = {base.positions} (in a recipe: [data] max_length)"
        )
    return examples


def load_node_base(node: Node) -> BaseModel:
    """Load the node's base model, once per process."""
    return load_base(node.base.path, node.data.task, node.data.labels, node.base.dtype, node.base.device)


def describe_node(node: LocalNode, targets: str | tuple[str, ...]) -> Announcement:
    """Make the node's announcement for these targets.

    Raises:
        ConfigError: no module matches, or none can have the node's rank.
    """
    settings = node.settings
    model = describe_model(settings, targets)
    check_rank(settings.rank, model.shapes)
    rows = len(node.train) + len(node.held)
    return Announcement(settings.name, settings.rank, rows, model, node.predictions)


def describe_model(node: Node, targets: str | tuple[str, ...]) -> ModelDescription:
    """Describe the part of a node that all nodes of a run share; its rows are not read.

    Raises:
        ConfigError: no module matches the targets.
        ModelError: a file of the base is damaged.
    """
    base = load_node_base(node)
    shapes = attach_lora(base, find_targets(base, targets))[1].shapes
    embeddings = tuple(name for name in shapes if isinstance(base.model.get_submodule(name), nn.Embedding))
    return ModelDescription(fingerprint_node(node, tuple(shapes)), node.data.task, shapes, base.head, embeddings)


@cache
def fingerprint_node(node: Node, modules: tuple[str, ...]) -> str:
    """Hash, once per process, what all nodes that train these modules together must share.

    Raises:
        ModelError: the base lacks such a module, or one of its files is damaged.
    """
    data, base = node.data, load_node_base(node)
    shapes = attach_lora(base, modules)[1].shapes
    shared = {key: getattr(data, key) for key in TASKS[data.task].shared}
    return fingerprint(base.folder, shapes, data.task, data.labels, data.max_length, **shared)


def check_rank(rank: int, shapes: Shapes) -> None:
    """Check that at least one target can have this rank.

    Raises:
        ConfigError: it exceeds min(d, k) of every target.
    """
    largest = max(min(shape) for shape in shapes.values())
    if rank > largest:
        raise ConfigError(
            f"rank = {rank} (in a recipe: [clients] ranks) exceeds min(d, k) of every target module, "
            f"which is at most {largest}; lower the rank"
        )


def attach_lora(base: BaseModel, names: tuple[str, ...]) -> tuple[BaseModel, Lora]:
    """Return this thread's skeleton of the base with adapters on these modules, attached once per set of targets."""
    attached: dict[tuple[BaseModel, tuple[str, ...]], tuple[BaseModel, Lora]]
    attached = _THREAD.__dict__.setdefault("attached", {})
    if (base, names) not in attached:
        skeleton = base.skeleton()
        attached[base, names] = skeleton, Lora(skeleton.model, names)
    return attached[base, names]
