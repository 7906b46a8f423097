"""Settings files with their comments: a commented file to start from, in which some keys are set."""

import re
from collections.abc import Mapping
from typing import Any

from client.columns.page import toml_line

_KEY = re.compile(r"#?(?P<key>[a-z_]+) = (?P<value>(?:\"[^\"]*\"|\[[^\]]*\]|[^#\"\[])*?)\s*(?P<comment>#.*)?")
_TABLE = re.compile(r"\[(?P<name>\w+)\]")
_COLUMN = 32
"""Where comments begin."""

Values = Mapping[tuple[str, str], Any]
"""Value by table and key, where the table is "" for keys at the top; None leaves the key unset, behind a #."""


def filled(text: str, values: Values) -> str:
    """Return a commented TOML file with these keys set, each on its line.

    Raises:
        KeyError: the file has no line for a key.
    """
    lines, rest, table = [], dict(values), ""
    for line in text.splitlines():
        if heading := _TABLE.fullmatch(line):
            table = heading["name"]
        found = _KEY.fullmatch(line)
        place = (table, found["key"] if found else "")
        lines.append(_line(line, found, rest.pop(place)) if found and place in rest else line)
    if rest:
        raise KeyError(next(iter(rest)))
    return "\n".join([*lines, ""])


def _line(line: str, found: re.Match[str], value: Any) -> str:
    if value is None:
        return line if line.startswith("#") else f"#{line}"
    setting = toml_line(found["key"], value)
    return f"{setting:{_COLUMN - 1}} {found['comment']}" if found["comment"] else setting
