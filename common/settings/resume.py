"""The settings of a run that has begun: their hash, and rules that keep them when defaults and keys change."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from common.settings.marks import added_later, is_operational, table_type
from common.settings.reader import Settings, parse_settings, read_toml, to_tables, to_toml


def config_hash(settings: Any) -> str:
    """Return the SHA-256 of the decisive tables."""
    return hashlib.sha256(json.dumps(decisive_tables(settings), sort_keys=True).encode()).hexdigest()


def decisive_tables(settings: Any) -> dict[str, Any]:
    """Return the tables without operational keys, and without later keys that have their value from before."""
    return _decisive(settings, to_tables(settings))


def _decisive(settings: Any, tables: Mapping[str, Any]) -> dict[str, Any]:
    result = {}
    for each in fields(settings):
        value, later = tables.get(each.name), added_later(each)
        if is_dataclass(inner := getattr(settings, each.name)):
            value = _decisive(inner, tables[each.name]) or None
        if value is not None and not is_operational(each) and not (later and value in (later.before, *later.alike)):
            result[each.name] = value
    return result


def read_run_settings(kind: type[Settings], file: Path) -> Settings:
    """Read the `config.toml` of a run that has begun; a later key that it lacks has the value from before the key.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
    """
    return parse_settings(kind, fill_earlier_values(kind, read_toml(file, links=False)), str(file))


def fill_earlier_values(kind: Any, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a begun run; a later key that they lack gets its value from before the key."""
    result = dict(tables)
    for each in fields(kind):
        table, later, inner = table_type(each), added_later(each), tables.get(each.name, {})
        if later and each.name not in tables:
            result[each.name] = later.before
        elif table and isinstance(inner, Mapping) and (each.name in tables or is_dataclass(each.default)):
            result[each.name] = fill_earlier_values(table, inner)
    return result


def resume_settings(kind: type[Settings], typed: Mapping[str, Any], source: str, file: Path) -> Settings:
    """Return the typed settings; a key left unset has its value from the begun run's `config.toml`.

    Args:
        kind: of the settings.
        typed: tables as the user has set them.
        source: name of the file that they are from, for errors.
        file: the run's `config.toml`.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
    """
    return parse_settings(kind, _overlay(fill_earlier_values(kind, read_toml(file, links=False)), typed), source)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        under = below.get(key)
        result[key] = _overlay(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return result


@dataclass(frozen=True, order=True)
class Change:
    """A key with its tables, such as ("lora", "alpha"), its value in the run and the value typed now."""

    path: tuple[str, ...]
    was: Any = field(compare=False)
    typed: Any = field(compare=False)


def find_changes(begun: Any, typed: Mapping[str, Any]) -> list[Change]:
    """Return the decisive keys whose typed value differs from that of the begun run, in order of name."""
    return sorted(_find_changes(begun, typed, ()))


def _find_changes(begun: Any, typed: Mapping[str, Any], tables: tuple[str, ...]) -> Iterator[Change]:
    for each in fields(begun):
        was, now, path = getattr(begun, each.name), typed.get(each.name), (*tables, each.name)
        if is_operational(each) or each.name not in typed:
            continue
        if is_dataclass(was) and isinstance(now, Mapping):
            yield from _find_changes(was, now, path)
        elif to_toml(was) != now:
            yield Change(path, was, now)
