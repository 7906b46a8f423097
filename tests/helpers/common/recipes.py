"""The least recipe, and what is wrong with another."""

import pytest

from common.errors import ConfigError
from common.settings.reader import parse_settings
from common.settings.recipe import Recipe

LEAST = {"base": {"path": "base"}, "data": {"corpus": "docs"}, "clients": {"count": 3}, "train": {"rounds": 2}}


def with_keys(**sections):
    """Return the smallest recipe with these keys in these sections; `None` removes a key."""
    tables = {name: dict(section) for name, section in LEAST.items()}
    for section, keys in sections.items():
        if not isinstance(keys, dict):
            tables[section] = keys
            continue
        merged = tables.get(section, {}) | keys
        tables[section] = {key: value for key, value in merged.items() if value is not None}
    return tables


def error_of(tables, kind=Recipe):
    with pytest.raises(ConfigError) as caught:
        parse_settings(kind, tables, "r.toml")
    return str(caught.value)
