"""The reference of all settings, docs/configuration.md, from the types, defaults and docstrings of their classes.

python -m common.settings.reference        # or `make docs`; writes the file
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from itertools import chain
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from common.settings.marks import is_operational, table_type
from common.settings.node import NodeFile
from common.settings.reader import to_toml
from common.settings.recipe import Recipe
from common.settings.server import ServerFile

FILE = Path("docs/configuration.md")
_PARTS = {"A recipe": Recipe, "A node's file: client.toml": NodeFile, "A server's file: server.toml": ServerFile}
_HEAD = """\
# Configuration

<!-- Written by `make docs` from the docstrings in common/settings; edit those. -->

Every key of the three TOML files. "Required" marks a key without a default. An unknown key or a wrong value is an error
that names the key, the value and the remedy.

A run that has begun resumes only with the values that it began with, except for keys marked ↻. A key that is not set
again keeps its value from the run's own `config.toml`, also under a later release with other defaults."""
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}", "min_length": "at least {}"}
_NOUNS = {int: "integer", float: "number", str: "text", bool: "`true` or `false`"}
_UNSET: tuple[Any, ...] = (None, "", ())


def reference() -> str:
    """Return the text of docs/configuration.md."""
    parts = (["", f"## {title}", *table_lines(kind)] for title, kind in _PARTS.items())
    return "\n".join([_HEAD, *chain(*parts), ""])


def table_lines(kind: type, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the lines of a class: its keys, then those of the tables in it, with their path in the file.

    Raises:
        ValueError: a key has no meaning in its class's docstring, or a meaning no key.
    """
    yield from ("", _summary(kind), *_rows(kind))
    for field in fields(kind):
        if inner := table_type(field):
            below = (*path, field.name)
            yield from ("", f"### `[{'.'.join(below)}]`", *table_lines(inner, below))


def _rows(kind: type) -> Iterator[str]:
    meanings, keys = read_meanings(kind), [field for field in fields(kind) if not table_type(field)]
    keys.sort(key=lambda field: field.default is not MISSING)  # Required keys first, the others in their order.
    if lacking := [field.name for field in keys if field.name not in meanings]:
        raise ValueError(f"{kind.__name__}: no meaning of {', '.join(lacking)}; add a line to `Args:` in its docstring")
    if other := meanings.keys() - {field.name for field in fields(kind)}:
        raise ValueError(f"{kind.__name__}: `Args:` in its docstring has {', '.join(sorted(other))}, which is no key")
    if keys:
        yield from ("", "| key | type | default | meaning |", "| --- | --- | --- | --- |")
        yield from (_row(kind, field, meanings[field.name]) for field in keys)


def _row(kind: type, field: "Field[Any]", meaning: str) -> str:
    hint = get_type_hints(kind, include_extras=True)[field.name]
    key = f"`{field.name}`" + (" ↻" if is_operational(field) else "")
    cells = (key, type_in_words(hint), _default(field), meaning[:1].upper() + meaning[1:])
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _default(field: "Field[Any]") -> str:
    if field.default is MISSING:
        return "required"
    return "not set" if field.default in _UNSET else f"`{json.dumps(to_toml(field.default))}`"


def _summary(kind: type) -> str:
    first = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    return " ".join(first.split()).rpartition("] ")[2]


def read_meanings(kind: type) -> dict[str, str]:
    """Return the lines of `Args:` (Google's form) in the docstrings of a class and of its bases, by key."""
    meanings: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        section = inspect.cleandoc(each.__dict__.get("__doc__") or "").partition("Args:\n")[2].partition("\n\n")[0]
        lines = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
        meanings |= {key: " ".join(text.split()) for key, text in lines}
    return meanings


def type_in_words(hint: Any) -> str:
    """Return a settings key's type in words, such as "positive integer" or "list of texts, at least 1"."""
    parts, origin = get_args(hint), get_origin(hint)
    if origin is Annotated:
        marks = [mark for mark in parts[1:] if isinstance(mark, FieldInfo)]
        described = [mark.description for mark in marks if mark.description]
        return described[0] if described else _bounded(type_in_words(parts[0]), marks)
    if origin is Literal:
        return _either([f"`{part}`" for part in parts])
    if origin in (Union, UnionType):
        return _either([type_in_words(part) for part in parts if part is not NoneType])
    if origin is tuple:
        noun, comma, rest = type_in_words(parts[0]).partition(",")
        return f"list of {noun}s{comma}{rest}"
    return _NOUNS[hint]


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _bounded(noun: str, marks: list[FieldInfo]) -> str:
    bounds: Mapping[str, float] = {
        key: getattr(bound, key) for mark in marks for bound in mark.metadata for key in _BOUNDS if hasattr(bound, key)
    }
    if bounds in ({"ge": 1}, {"gt": 0}):
        return f"positive {noun}"
    return ", ".join([noun, *(_BOUNDS[key].format(value) for key, value in bounds.items())])


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
