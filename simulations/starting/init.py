"""`fedlora init`: the first recipe, node's file or server's file, from the rows and the base that it is for."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import client
import server
from client.columns.survey import Survey
from common.atomic_files import write_file
from common.errors import ConfigError
from common.settings.node import NodeFile
from common.settings.reader import parse_settings, user_path
from common.settings.recipe import Recipe
from common.settings.server import ServerFile
from common.settings.tasks import REGRESSION, SINGLE
from simulations.recipe import base_path
from simulations.starting.check import survey_file
from simulations.starting.clients import clients_for, test_rows_for
from simulations.starting.commented import Values, filled
from simulations.starting.questions import Questions
from simulations.starting.read_rows import FoundRows, read_for, recognised


@dataclass(frozen=True)
class Sources:
    """The flags that name rows and base: file of rows, path of the base, column of the label, encoding of text."""

    data: str | None
    base: str | None
    label: str | None
    encoding: str


def init_recipe(
    file: Path | None, sources: Sources, owner: str | None, clients: int | None, rounds: int | None, ask: Questions
) -> list[str]:
    """Write a recipe and return what to tell; what is None is asked for, or has a default.

    Raises:
        ConfigError: the file exists, or a flag is missing or wrong.
        DataError, ModelError: rows or base cannot be used.
    """
    check_free(file)
    data, found, read, base = _read(sources, ask)
    path = check_free(file or Path(f"{data.name.partition('.')[0]}.toml"))
    dealt = clients_for(found, read, owner, clients, ask)
    rows = {"path": _from(str(data), path.parent), "encoding": _encoding(sources), "test_rows": test_rows_for(read)}
    values = {
        **_in("base", {"path": _from(base, path.parent), "head": read.head if read.head != "keep" else None}),
        **_in("data", rows | read.settings),
        **_in("clients", dealt),
        ("train", "rounds"): ask.number("--rounds", rounds, "Rounds of the run", 20),
    }
    _write(path, Path(__file__).with_name("recipe.toml"), values, Recipe)
    return [*_told(path, read), f"next: fedlora check {path}", f"then: fedlora simulate {path}"]


def init_node(
    file: Path | None, sources: Sources, name: str | None, address: str | None, rank: int | None, ask: Questions
) -> list[str]:
    """Write a node's file and return what to tell; otherwise as `init_recipe`."""
    path = check_free(file or Path("client.toml"))
    data, _, read, base = _read(sources, ask)
    keys = (path.parent / "keys").is_dir()
    values = {
        "name": ask.text("--name", name, "Name of the node, as in its keys"),
        "rank": ask.number("--rank", rank, "Rank of the matrices that it trains", 8),
        "base": _from(base_path(base), path.parent),
        "data": _from(str(data), path.parent),
        "server": ask.text("--server", address, "Address of the server, HOST:PORT"),
        "keys": "keys" if keys else None,
        "labels": read.labels if read.has_labels else None,
        "head": read.head if read.head != "keep" else None,
        "encoding": _encoding(sources),
        **read.settings,
    }
    _write(path, Path(client.__path__[0]) / "example.toml", _in("", values), NodeFile)
    missing = [] if keys else [f"keys: not set, as there is no folder keys beside {path}; see `fedlora keys --help`"]
    return [*_told(path, read), *missing, f"next: fedlora check {path}", f"then: fedlora client {path}"]


def init_server(
    file: Path | None, project: str | None, run: str | None, rounds: int | None, ask: Questions
) -> list[str]:
    """Write a server's file and return what to tell; otherwise as `init_recipe`."""
    path = check_free(file or Path("server.toml"))
    values = {
        "project": ask.text("--project", project, "Name of the project, as in `fedlora keys init`"),
        "run": ask.text("--run", run, "Name of the run", "first"),
        "rounds": ask.number("--rounds", rounds, "Rounds of the run", 20),
    }
    _write(path, Path(server.__path__[0]) / "example.toml", _in("", values), ServerFile)
    describe = "fedlora client --check client.toml --describe base.toml"
    return [f"written: {path}", f"next, at a node: {describe}", f"then: fedlora server {path}"]


def check_free(file: Path | None) -> Any:
    """Return the path of a new file.

    Raises:
        ConfigError: there is something, which is never overwritten; or no folder for it, or it is no name of one.
    """
    if file is not None and file.suffix.lower() != ".toml":
        raise ConfigError(f"{file} does not end in .toml, as a file of settings does; give another name")
    if file is not None and os.path.lexists(file):
        raise ConfigError(f"{file} exists and is left as it is; give another name, or remove it")
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError(f"{file} cannot be written: there is no folder {file.parent}; make it, or give another name")
    return file


def _read(sources: Sources, ask: Questions) -> tuple[Path, Survey, FoundRows, str]:
    data = user_path(ask.text("--data", sources.data, "File or folder of rows"))
    found = survey_file(data, sources.encoding)
    suggestion = recognised(data, found, sources.label)
    if ask.interactive and sources.label is None and suggestion.labels:
        chosen = ask.text("--label", None, "Column of the label", suggestion.columns["label"])
        suggestion = recognised(data, found, chosen)
    base = ask.text("--base", sources.base, "Folder of the base model")
    return data, found, read_for(data, suggestion, base, sources.encoding), base


def _encoding(sources: Sources) -> str | None:
    return None if sources.encoding == "utf-8" else sources.encoding


def _in(table: str, values: Mapping[str, Any]) -> Values:
    return {(table, key): value for key, value in values.items()}


def _from(path: str, folder: Path) -> str:
    """Return a path as a file in this folder names it: relative to it if it is below it."""
    if path.startswith(("package:", "tiny:")):
        return path
    whole, start = user_path(path).absolute(), folder.absolute()
    return whole.relative_to(start).as_posix() if whole.is_relative_to(start) else str(whole)


def _write(path: Path, template: Path, values: Values, kind: type[Any]) -> None:
    """Write a file of settings of this kind.

    Raises:
        ConfigError: a value is none that its key can have, or the file cannot be written.
    """
    text = filled(template.read_text(encoding="utf-8"), values)
    parse_settings(kind, tomllib.loads(text), str(path))
    try:
        write_file(path, text.encode(), exclusive=True)
    except OSError as error:
        what = error.strerror or error
        raise ConfigError(f"{path} cannot be written: {what}; give a name in a folder that takes it") from None


def _told(path: Path, read: FoundRows) -> list[str]:
    suggestion = read.suggestion
    kind = "" if suggestion.problem_type == SINGLE else f", {suggestion.problem_type}"
    what = "numbers a row" if suggestion.problem_type == REGRESSION else "labels"
    labels = kind + (f", {len(read.labels)} {what}" if read.has_labels else "")
    skipped = [f"{read.skipped} rows cannot be used, so it sets skip_bad_rows = true"] if read.skipped else []
    return [f"written: {path}", f"{read.rows} rows, {read.suggestion.task}: {read.suggestion}{labels}", *skipped]
