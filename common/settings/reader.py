"""Settings files: read, overridden and checked once; an error names the key, the value and the remedy."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from common.errors import ConfigError, nearest
from common.plain_files import SETTINGS, read_plain
from common.settings.marks import table_type

Settings = TypeVar("Settings")


def read_toml(path: Path, *, links: bool = True) -> dict[str, Any]:
    """Read the file's tables; `links`: the path may be a symbolic link to it.

    Raises:
        ConfigError: it is missing, not a plain file, too large or not TOML.
    """
    try:
        return _parse_toml(read_plain(path, SETTINGS, links=links).decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give the path of a TOML file") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}; fix that line") from None


_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
_DEEP_KEY = re.compile(rf"""(?<![\w"'-])(?:{_PART}){{32}}""")


def _parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; tomllib takes memory and time for the square of a key's parts.

    Raises:
        ValueError, RecursionError: it is not TOML, a number has too many digits, or it is too deep.
    """
    if deep := _DEEP_KEY.search(text):
        raise ValueError(f"a key with more than 32 parts begins with {deep.group()[:40]!a}")
    return tomllib.loads(text)


_MAX_KEY = 256


def user_path(text: str) -> Path:
    """Return a path as a user writes it; `~` is a home folder.

    Raises:
        ConfigError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{text!r} begins with the home folder of no known user; write the whole path") from None


def override(tables: Mapping[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply each `KEY.KEY=VALUE` to the tables; VALUE is read as TOML, or else as a plain word.

    Raises:
        ConfigError: an assignment has no `=`, or a parent key is not a table.
    """
    result: dict[str, Any] = json.loads(_to_json(tables, "--set"))
    for assignment in assignments:
        dotted, equals, value = assignment.partition("=")
        if not equals or not dotted.strip():
            raise ConfigError(f"--set {assignment!r} has no key=value; write for example --set train.rounds=3")
        *parents, key = dotted.strip().split(".")
        table = result
        for name in parents:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {assignment!r}: {name} is a value, not a table")
        table[key] = _toml_value(value.strip())
    return result


def _toml_value(text: str) -> Any:
    try:
        return _parse_toml(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def parse_settings(kind: type[Settings], tables: Mapping[str, Any], source: str) -> Settings:
    """Parse the tables as frozen settings of this kind.

    Raises:
        ConfigError: every wrong key and value, one line each.
    """
    try:
        return TypeAdapter(kind).validate_json(_to_json(tables, source))
    except ValidationError as error:
        lines = [_explain(kind, details) for details in _causes(error.errors())]
        raise ConfigError("\n".join(f"{source}: {line}" for line in _merge(lines))) from None


def _to_json(tables: Mapping[str, Any], source: str) -> str:
    try:
        if isinstance(tables, Mapping):  # A file of JSON may hold anything.
            _check_keys(tables, source)
        return json.dumps(tables, default=str)
    except (ValueError, RecursionError) as error:  # A number in hexadecimal may have any number of digits.
        raise ConfigError(f"{source} has a value that no key can have: {error}; remove it") from None


def _check_keys(tables: Mapping[str, Any], source: str) -> None:
    """Check the keys' length, since each error below a key spells it again."""
    for key, value in tables.items():
        if len(key) > _MAX_KEY:
            raise ConfigError(f"{source} has a key of {len(key)} characters that begins with {key[:40]!a}; remove it")
        if isinstance(value, Mapping):
            _check_keys(value, source)


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drop errors that call a list too short only because one of its items is wrong."""
    places = [error["loc"] for error in errors]
    of_items = {place[:-1] for place in places}
    return [error for error in errors if error["type"] != "too_short" or error["loc"] not in of_items]


def _merge(lines: list[str]) -> list[str]:
    """Merge the lines of one key and value: a union's members each have a line, and the value may have any form."""
    reasons: dict[str, list[str]] = {}
    for line in dict.fromkeys(lines):
        key, _, reason = line.partition(": ")
        reasons.setdefault(key, []).append(reason)
    return [": ".join(filter(None, (key, ", or ".join(filter(None, each))))) for key, each in reasons.items()]


def _explain(kind: type, details: ErrorDetails) -> str:
    path = [part for part in details["loc"] if isinstance(part, str)]
    if details["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key {_spell_key(path)}{nearest(path[-1], _list_keys(kind, path[:-1]))}"
    if details["type"] in ("missing", "missing_argument"):
        return f"{_spell_key(path)} is missing; add it"
    reason = "write a list, as in [4, 8]" if details["type"] == "tuple_type" else details["msg"]
    reason = reason.removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if isinstance(details["input"], dict) or not path:
        return f"{_spell_key(path)}: {reason}" if path else reason
    return f"{_spell_key(_keys(kind, path))} = {details['input']!r}: {reason}"


def _spell_key(path: list[str]) -> str:
    return f"[{'.'.join(path[:-1])}] {path[-1]}" if path[:-1] else path[-1]


def _keys(kind: Any, path: list[str]) -> list[str]:
    """Return the file's keys in an error's location, without pydantic's names of union members."""
    keys: list[str] = []
    for part in path:
        if part not in _list_keys(kind, keys):
            break
        keys.append(part)
    return keys or path[:1]


def _list_keys(kind: Any, path: list[str]) -> list[str]:
    for part in path:
        tables = {field.name: table_type(field) for field in dataclasses.fields(kind)} if kind else {}
        kind = tables.get(part)
    return [field.name for field in dataclasses.fields(kind)] if kind else []


def values_of(kind: type, settings: Any) -> dict[str, Any]:
    """Return the values of those fields of the settings that are also fields of this kind."""
    return {each.name: getattr(settings, each.name) for each in dataclasses.fields(kind)}


def to_tables(settings: Any) -> dict[str, Any]:
    """Return settings as plain tables that TOML can hold: unset keys left out, tuples as lists."""
    return to_toml(asdict(settings))  # type: ignore[no-any-return]


def to_toml(value: Any) -> Any:
    """Return one value in the form that TOML can hold."""
    if isinstance(value, dict):
        return {key: to_toml(item) for key, item in value.items() if item is not None}
    return [to_toml(item) for item in value] if isinstance(value, tuple | list) else value
