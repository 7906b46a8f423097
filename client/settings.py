"""Reader of a node's own settings file. Nothing for training is imported: PyTorch alone takes seconds."""

from dataclasses import replace
from pathlib import Path

from common.settings.node import Node
from common.settings.reader import parse_settings, read_toml


def read_node(file: Path) -> Node:
    """Read the settings in a node's own file; paths in it are relative to it.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
    """
    node = parse_settings(Node, read_toml(file), str(file))
    base = node.base if node.base.startswith("package:") else str(file.parent / Path(node.base).expanduser())
    keys = str(file.parent / Path(node.keys).expanduser()) if node.keys else ""
    return replace(node, base=base, data=str(file.parent / node.data), keys=keys)
