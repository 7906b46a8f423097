"""The settings file of a node in Flower's own simulation, which gives it only a number: a file in `$FEDLORA_NODES`."""

import os
from pathlib import Path

from common.errors import ConfigError

_START = "start Flower's SuperLink, and Ray on every machine, with it (a running SuperLink keeps its old environment)"


def node_file(number: int, count: int, run: str) -> Path:
    """Return the settings file of node `number` (from 0) of `count`, in order of the files' names.

    Raises:
        ConfigError: the variable is not set, its folder belongs to another run than this, or it does not contain
            one file for each node.
    """
    value = os.environ.get("FEDLORA_NODES")
    if not value:
        raise ConfigError(
            f"FEDLORA_NODES is not set; set it to the folder of the nodes' settings files, RUN/nodes, and {_START}"
        )
    folder = Path(value).resolve()
    files = sorted(folder.glob("*.toml"))
    if (folder.parent / "config.toml").is_file() and folder.parent != Path(run).resolve():
        raise ConfigError(
            f"FEDLORA_NODES={value} belongs to another run than {run}; set it to {run}/nodes and {_START}"
        )
    if len(files) != count:
        raise ConfigError(
            f"FEDLORA_NODES={value} contains {len(files)} settings files, but Flower started {count} nodes; "
            f"use --federation-config 'num-supernodes={len(files)} ...'"
        )
    return files[number]
