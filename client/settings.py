"""Reader of a node's own settings file. Nothing for training is imported: PyTorch alone takes seconds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import ModelError
from common.huggingface.base_folder import resolve_base
from common.huggingface.own_head import OwnHead, output_names, own_head, trained_for, unnamed
from common.settings.chat_template import read_chat_template
from common.settings.node import Node, NodeData, NodeFile
from common.settings.reader import parse_settings, read_toml, user_path
from common.settings.recipe import Base
from common.settings.resume import fill_earlier_values
from common.settings.tasks import SINGLE, TASKS, Problem, RowSettings


def read_node(file: Path) -> Node:
    """Read the settings in a node's own file; paths in it are relative to it.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
    """
    return settle(_read(file, read_toml(file)))


def settle(node: Node) -> Node:
    """Return the node with what its base model decides: what a row has if that is "auto", and the order of labels."""
    data = node.data
    if not TASKS[data.task].labels:
        return node
    data = replace(data, problem_type=problem_type_for(data, node.base))
    own = _kept_head(node.base) if data.labels or data.has_numbers else None
    labels = _named(data, own)
    return replace(node, data=replace(data, labels=own.order(labels) if own and node.base.head == "keep" else labels))


def problem_type_for(data: RowSettings, base: Base) -> Problem:
    """Return what a row of a task with labels has: as set, or what the base's own head was trained for."""
    if data.problem_type != "auto":
        return data.problem_type
    try:
        return (trained_for(resolve_base(base.path)) if base.head != "new" else None) or SINGLE
    except ModelError:
        return SINGLE  # Whoever loads it says what is wrong.


def _kept_head(base: Base) -> OwnHead | None:
    if base.head == "new":
        return None
    try:
        return own_head(resolve_base(base.path))
    except ModelError:
        return None  # Whoever loads it says what is wrong.


def _named(data: NodeData, own: OwnHead | None) -> tuple[str, ...]:
    """Return the labels; where outputs have no names, or one that gives numbers is not named, those of the own head."""
    count = len(own.classes) if own else 1
    labels = data.labels or (output_names(count) if data.has_numbers else ())
    return own.classes if own and unnamed(labels) and len(labels) == count and not data.has_classes else labels


def read_saved_node(file: Path) -> Node:
    """Read the settings that a run has kept of a node; a later key that they lack has the value from before the key.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
    """
    return _read(file, fill_earlier_values(NodeFile, read_toml(file)))


def _read(file: Path, tables: Mapping[str, Any]) -> Node:
    read = parse_settings(NodeFile, tables, str(file))
    base = read.base if read.base.startswith("package:") else str(file.parent / user_path(read.base))
    keys = str(file.parent / user_path(read.keys)) if read.keys else ""
    folder = str(file.parent / user_path(read.folder)) if read.folder else ""
    template = None if read.chat_template is None else read_chat_template(read.chat_template, file.parent)
    data = str(file.parent / read.data)
    return replace(read, base=base, data=data, keys=keys, folder=folder, chat_template=template).to_node()
