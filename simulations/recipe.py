"""Read a recipe: one TOML file, with settings from the command line over it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import override, parse, read_toml
from common.settings import Recipe
from simulations.gguf import gguf_base
from simulations.tiny import tiny_base


def read_recipe(file: Path, assignments: list[str]) -> Recipe:
    """The recipe with each `KEY.KEY=VALUE` applied.

    Paths in the file are relative to the file's folder, those in an assignment to the current one.

    Raises:
        ConfigError: names each wrong key or value.
    """
    tables = override(_absolute(read_toml(file), file.parent), assignments)
    return parse(Recipe, _absolute(tables, Path.cwd()), str(file))


def base_path(path: str) -> str:
    """The path, or the folder made from it where it is `tiny:KIND` (random weights, for tests) or a GGUF file.

    Raises:
        FedloraError: it cannot be made.
    """
    if path.startswith("tiny:"):
        return str(tiny_base(path.removeprefix("tiny:")))
    return str(gguf_base(path)) if path.endswith(".gguf") else path


def _absolute(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    result = dict(tables)
    for section in ("base", "data"):
        values = tables.get(section)
        if isinstance(values, dict) and isinstance(values.get("path"), str):
            result[section] = values | {"path": _resolve(values["path"], folder)}
    return result


def _resolve(path: str, folder: Path) -> str:
    return path if path.startswith(("package:", "tiny:")) else str(folder.resolve() / Path(path).expanduser())
