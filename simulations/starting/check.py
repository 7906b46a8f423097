"""`fedlora check`: a recipe, a node's file, or a file of rows, read as a run would read it."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console

from client.check import typed_targets
from client.checking.advice import Advice, advise
from client.checking.checked import check_node_file, check_rows
from client.checking.lengths import count_longer
from client.checking.page import show
from client.columns.page import settings_for, show_data, show_settings
from client.columns.suggestion import Suggestion, for_base, suggest
from client.columns.survey import Survey, survey
from client.data.files.source import open_rows
from client.data.reading_progress import watching
from common.errors import ConfigError, DataError
from common.settings.node import Node, NodeData
from common.settings.reader import parse_settings, read_toml
from common.settings.recipe import Base, LoraSettings
from common.settings.tasks import RowSettings
from simulations.recipe import base_path
from simulations.starting.check_recipe import check_recipe


def check(file: Path, assignments: list[str], base: str | None, encoding: str, targets: str | None) -> None:
    """Print what a run would read, and what to change.

    Args:
        file: a recipe, a node's file, or a file or folder of rows.
        assignments: of a recipe, each `KEY.KEY=VALUE`.
        base: path of a base model, for rows alone.
        encoding: of the text of rows alone.
        targets: of a node: [lora] targets of its server, as typed; the default if not given.

    Raises:
        FedloraError: as a run would, or an option does not go with the file.
    """
    _spell_all()
    console = Console()
    kind = "rows" if file.suffix.lower() != ".toml" else _kind(file)
    _check_options(kind, {"--set": bool(assignments), "--base": base is not None, "--targets": targets is not None})
    if kind == "rows":
        _check_data(file, base, encoding, console)
    elif kind == "recipe":
        show(*check_recipe(file, assignments), console)
    else:
        checked = check_node_file(file, typed_targets(targets) if targets else LoraSettings().targets)
        show(checked, tuple(advise(checked)), console)


def _check_options(kind: str, given: Mapping[str, bool]) -> None:
    for option, goes_with, what in (
        ("--set", "recipe", "a recipe"),
        ("--base", "rows", "a file of rows; set it in the file"),
        ("--targets", "node", "a node's file; of a recipe, set [lora] targets"),
    ):
        if given[option] and kind != goes_with:
            raise ConfigError(f"{option} goes with {what}; leave it out")


def _spell_all() -> None:
    """Let text that the output's encoding does not have be written as escapes."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _kind(file: Path) -> str:
    """Return "recipe" or "node", by the keys of a TOML file."""
    tables = read_toml(file)
    if "project" in tables and "data" not in tables:
        raise ConfigError(
            f"{file} is a server's file, and a server reads no rows; check the file of a node, or a recipe"
        )
    return "recipe" if "clients" in tables or isinstance(tables.get("data"), dict) else "node"


def _check_data(file: Path, base: str | None, encoding: str, console: Console) -> None:
    found = survey_file(file, encoding)
    suggestion = suggest(found)
    if base is not None and suggestion is not None:
        suggestion = for_base(suggestion, base_path(base))
    show_data(file, found, suggestion, console, brief=base is not None)
    advice = list(settings_for(found, suggestion))
    if base is None or suggestion is None:
        return show_settings(advice, console)
    checked = check_rows(_node(file, suggestion, base, encoding, found))
    own, default = checked.node.data.max_length, RowSettings().max_length
    if own != default:
        cut = count_longer(checked.uncut, default)
        advice.append(
            Advice(f"max_length = {own}", f"the default is {default}, and cuts {cut} of {checked.count} rows")
        )
    told = {each.setting for each in advice}
    return show(checked, (*advice, *(each for each in advise(checked) if each.setting not in told)), console)


def survey_file(file: Path, encoding: str = "utf-8") -> Survey:
    """Read the columns of a file of rows.

    Raises:
        ConfigError: there is no such encoding.
        DataError: it cannot be read, or no row of it can.
    """
    parse_settings(RowSettings, {"encoding": encoding}, "--encoding")
    with watching(file) as watch:
        found = survey(open_rows(file, encoding).chunks(watch))
    if not found.rows:
        raise DataError(f"{file}: none of its {len(found.bad)} rows can be read; the first: {found.bad[0]}")
    return found


def _node(file: Path, suggestion: Suggestion, base: str, encoding: str, found: Survey) -> Node:
    """Return a node that reads these rows."""
    data = NodeData(path=str(file), labels=suggestion.labels, encoding=encoding, **suggestion.settings)
    data = replace(data, skip_bad_rows=bool(found.bad))
    return Node(name="node", rank=1, base=Base(base_path(base), "auto"), data=data)
