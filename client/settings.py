"""Reader of a node's own settings file. Nothing for training is imported: PyTorch alone takes seconds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import ModelError
from common.huggingface.base_folder import resolve_base
from common.huggingface.own_head import own_head
from common.settings.chat_template import read_chat_template
from common.settings.node import Node, NodeFile
from common.settings.reader import parse_settings, read_toml, user_path
from common.settings.resume import fill_earlier_values


def read_node(file: Path) -> Node:
    """Read the settings in a node's own file; paths in it are relative to it.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
    """
    return in_own_order(_read(file, read_toml(file)))


def in_own_order(node: Node) -> Node:
    """Return the node with its labels in the order of the base model's own head, if that has these classes."""
    if not node.data.labels or node.base.head != "keep":
        return node
    try:
        own = own_head(resolve_base(node.base.path))
    except ModelError:
        own = None  # Whoever loads it says what is wrong.
    return replace(node, data=replace(node.data, labels=own.order(node.data.labels))) if own else node


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
