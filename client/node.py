"""A node, as described by its own file: its data, tokenised once, and the frozen base that it trains on."""

import copy
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from client.data.batches import Batch
from client.data.files.source import open_rows
from client.data.reading_progress import watching
from client.data.rows import Chunk, Row, in_chunks
from client.model.base_model import BaseModel, load_base
from client.model.languages import with_languages
from client.model.lora import Lora
from client.model.targets import find_targets
from client.objectives.examples import Examples, count_predictions, encode_pieces, eval_batches, split_held_out
from client.settings import read_node, read_saved_node
from common.adapters.adapter import Shapes
from common.errors import ConfigError, DataError
from common.huggingface.fingerprint import fingerprint
from common.huggingface.fingerprint_parts import folder_parts, settings_parts
from common.huggingface.model_description import ModelDescription
from common.protocol.announcement import Announcement
from common.settings.node import Node
from common.settings.tasks import TASKS, problem_of, shared_settings

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
def load_node(file: Path, saved: bool = False) -> LocalNode:
    """Load the node of a `client.toml`, once per process; `saved`: it is one that a run has kept.

    Raises:
        ConfigError, ModelError, DataError: a setting, the base model or a row is wrong.
    """
    settings = read_saved_node(file) if saved else read_node(file)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return LocalNode(settings, *split_held_out(read_own_examples(settings), settings.name))


def read_own_examples(node: Node) -> Examples:
    """Turn the rows that the node's file names into examples for its base model, and raise as `encode_for`."""
    file = Path(node.data.path)
    load_node_base(node)
    with watching(file) as watch:
        return encode_for(node, open_rows(file, node.data.encoding).chunks(watch), file)


def read_examples(node: Node, rows: Sequence[Row], file: Path) -> Examples:
    """Turn rows of a file that are in memory into examples for the node's base model, and raise as `encode_for`."""
    return encode_for(node, in_chunks(rows, file), file)


def encode_for(node: Node, chunks: Iterable[Chunk], file: Path) -> Examples:
    """Turn the rows of a file, piece by piece, into examples for the node's base model.

    Raises:
        DataError: a row cannot be used, and none is to be skipped.
        ConfigError: a row is longer than the model has positions.
    """
    base = load_node_base(node)
    with _TOKENIZING:
        examples = encode_pieces(chunks, node.data, base.tokenizer, file)
    longest = max(examples.lengths, default=0)
    if base.positions is not None and longest > base.positions:
        raise ConfigError(
            f"max_length = {node.data.max_length} allows a row of {longest} tokens, but {base.folder} has only "
            f"{base.positions} positions; set max_length = {base.positions} (in a recipe: [data] max_length)"
        )
    _check_ids(examples, base, file)
    return examples


def _check_ids(examples: Examples, base: BaseModel, file: Path) -> None:
    rows = base.model.get_input_embeddings().weight.shape[0]
    if len(base.tokenizer) <= rows:
        return
    last = max((max(map(int, _largest(batch))) for batch in eval_batches(examples, 64)), default=0)
    if last >= rows:
        raise DataError(
            f"{file} contains the token {base.tokenizer.convert_ids_to_tokens(last)!r} ({last}), for which the "
            f"embedding of {base.folder}, of {rows} rows, has none; take it out of the texts"
        )


def _largest(batch: Batch) -> tuple[Tensor, ...]:
    """Return the largest id of what is read, and of targets that are tokens."""
    tokens = batch.targets.ndim > 1 and not batch.targets.is_floating_point()
    return (batch.input_ids.max(), batch.targets.max()) if tokens else (batch.input_ids.max(),)


def load_node_base(node: Node) -> BaseModel:
    """Load the node's base model, once per process; its tokenizer has the node's chat template and languages, if any.

    Raises:
        ModelError: as `load_base`.
        ConfigError: as `with_languages`.
    """
    own, data = node.base, node.data
    base = load_base(own.path, data.task, data.labels, own.dtype, own.device, own.head, problem_of(data))
    if TASKS[data.task].seq2seq:
        base = with_languages(base, data.src_lang, data.tgt_lang)
    return base if data.chat_template is None else _with_template(base, data.chat_template)


@lru_cache(maxsize=4)
def _with_template(base: BaseModel, template: str) -> BaseModel:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = template
    return replace(base, tokenizer=tokenizer)


def describe_node(node: LocalNode, targets: str | tuple[str, ...], begun: Collection[str] = ()) -> Announcement:
    """Make the node's announcement for these targets; `begun` are the modules of a run that has begun.

    Raises:
        ConfigError: no module matches, or none can have the node's rank.
    """
    settings = node.settings
    model = describe_model(settings, targets, begun)
    check_rank(settings.rank, model.shapes)
    rows = len(node.train) + len(node.held)
    skipped = len(node.train.found.skipped)
    return Announcement(settings.name, settings.rank, rows, model, node.predictions, skipped=skipped)


def describe_model(node: Node, targets: str | tuple[str, ...], begun: Collection[str] = ()) -> ModelDescription:
    """Describe the part of a node that all nodes of a run share; its rows are not read, `begun` as in `find_targets`.

    Raises:
        ConfigError: no module matches the targets.
        ModelError: a file of the base is damaged.
    """
    base = load_node_base(node)
    shapes = attach_lora(base, find_targets(base, targets, begun))[1].shapes
    embeddings = tuple(name for name in shapes if isinstance(base.model.get_submodule(name), nn.Embedding))
    parts = {**folder_parts(base.folder), **settings_parts(shapes, *_shared_settings(node))}
    own, kind = fingerprint_node(node, tuple(shapes)), problem_of(node.data)
    return ModelDescription(own, node.data.task, shapes, base.head, embeddings, parts, kind)


def _shared_settings(node: Node) -> tuple[str, tuple[str, ...], int, dict[str, Any]]:
    """Return task, labels, max_length, and the further settings of the task that all nodes share."""
    data, replaced = node.data, {"head": "new"} if load_node_base(node).replaced else {}
    return data.task, data.labels, data.max_length, shared_settings(data) | replaced


@cache
def fingerprint_node(node: Node, modules: tuple[str, ...]) -> str:
    """Hash, once per process, what all nodes that train these modules together must share.

    Raises:
        ModelError: the base lacks such a module, or one of its files is damaged.
    """
    base = load_node_base(node)
    shapes = attach_lora(base, modules)[1].shapes
    task, labels, max_length, shared = _shared_settings(node)
    return fingerprint(base.folder, shapes, task, labels, max_length, **shared)


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
