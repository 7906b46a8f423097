"""Read a recipe: one TOML file, overridden by settings from the command line."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import ConfigError, JournalError
from common.huggingface.start_adapter import pin_adapter
from common.settings.chat_template import read_chat_template
from common.settings.reader import override, parse_settings, read_toml, user_path
from common.settings.recipe import Recipe
from common.settings.resume import find_changes, read_run_settings, resume_settings
from simulations.corpora.paper.registry import with_problem_type
from simulations.gguf_base import gguf_base
from simulations.tiny_base import tiny_base


def read_recipe(file: Path, assignments: list[str], run: Path | None = None) -> Recipe:
    """Return the recipe with each `KEY.KEY=VALUE` applied.

    Paths in the file are relative to the file's folder, those in an assignment to the current one. If a started run
    is given, keys that are set nowhere keep the values that it started with.

    Raises:
        ConfigError: names each wrong key or value, and each that differs from the run's.
        JournalError: the folder given is not a run.
    """
    tables = override(_absolute(read_toml(file), file.parent), assignments)
    tables = _absolute(tables, Path.cwd())
    recipe = as_begun(tables, str(file), run) if run else parse_settings(Recipe, tables, str(file))
    return with_problem_type(replace(recipe, base=pin_adapter(recipe.base, begun=run is not None)))


def as_begun(tables: Mapping[str, Any], source: str, run: Path) -> Recipe:
    """Return the recipe of a started run, in which keys that are set nowhere keep the values that it started with.

    Raises:
        ConfigError: names each wrong key or value, and each that differs from the run's.
        JournalError: the folder given is not a run.
    """
    config = run / "config.toml"
    if not config.is_file():
        raise JournalError(f"{run} is not a run: it has no config.toml; give the folder that a run's last line names")
    if changed := find_changes(read_run_settings(Recipe, config), tables):
        lines = [f"  {'.'.join(c.path)}: the run has {c.was}, this recipe {c.typed}" for c in changed]
        raise ConfigError(
            "\n".join([f"{run} was started with other settings; use the same settings, or start a new run:", *lines])
        )
    return resume_settings(Recipe, tables, source, config)


def base_path(path: str) -> str:
    """Return the path, or the folder made from it if it is `tiny:KIND` (random weights, for tests) or a GGUF file.

    Raises:
        FedloraError: it cannot be made.
    """
    if path.startswith("tiny:"):
        return str(tiny_base(path.removeprefix("tiny:")))
    return str(gguf_base(path)) if path.endswith(".gguf") else path


def _absolute(tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the tables with whole paths, and the text of a chat template in place of its file."""
    result = dict(tables)
    for section, key in (("base", "path"), ("base", "adapter"), ("data", "path")):
        values = result.get(section)
        if isinstance(values, dict) and isinstance(values.get(key), str):
            result[section] = values | {key: _resolve(values[key], folder)}
    if isinstance(data := result.get("data"), dict) and isinstance(template := data.get("chat_template"), str):
        result["data"] = data | {"chat_template": read_chat_template(template, folder)}
    return result


def _resolve(path: str, folder: Path) -> str:
    return path if path.startswith(("package:", "tiny:")) else str(folder.resolve() / user_path(path))
