"""Reader of a node's own settings file. Nothing for training is imported: PyTorch alone takes seconds."""

from dataclasses import replace
from pathlib import Path

from common.settings.node import Node, NodeFile
from common.settings.reader import parse_settings, read_toml, user_path


def read_node(file: Path) -> Node:
    """Read the settings in a node's own file; paths in it are relative to it.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
    """
    read = parse_settings(NodeFile, read_toml(file), str(file))
    base = read.base if read.base.startswith("package:") else str(file.parent / user_path(read.base))
    keys = str(file.parent / user_path(read.keys)) if read.keys else ""
    return replace(read, base=base, data=str(file.parent / read.data), keys=keys).to_node()
