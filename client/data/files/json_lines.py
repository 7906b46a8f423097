"""JSON Lines: an object on each line; blank lines are skipped."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from client.data.files.part import TOO_LONG, Item, Meter
from client.data.files.text import bounded_lines, check_characters, open_text
from client.data.row_checks import BadRow
from client.data.rows import BadLine, Row


def json_lines(path: Path, encoding: str, meter: Meter) -> Iterator[Item]:
    """Yield the rows of a file with an object on each line.

    Raises:
        DataError: it cannot be read.
    """
    with open_text(path, encoding, meter) as text:
        for number, line in bounded_lines(text):
            try:
                if line is None:
                    raise BadRow(TOO_LONG)
                yield Row(number, parse_object(line, encoding))
            except BadRow as reason:
                yield BadLine(number, str(reason))


def parse_object(text: str, encoding: str) -> Mapping[str, Any]:
    """Return the JSON object that a text is.

    Raises:
        BadRow: it is none, or names a key twice.
    """
    check_characters(text, encoding)
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        raise BadRow(f"is not JSON ({error.msg} at {place})") from None
    except BadRow:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRow(f"cannot be read as JSON ({spelt_fault(error)})") from None
    return as_fields(value)


def spelt_fault(error: Exception) -> str:
    """Return what a reader of JSON has against a value, without advice to programmers."""
    return "a number has too many digits" if "int_max_str_digits" in str(error) else str(error)


def as_fields(value: Any) -> Mapping[str, Any]:
    """Return a JSON value as the fields of a row.

    Raises:
        BadRow: it is not an object.
    """
    if not isinstance(value, dict):
        raise BadRow(f'is not a JSON object such as {{"text": "..."}} but {type(value).__name__}')
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise BadRow(f"names the key {twice!r} twice, with one value lost; remove one")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_unique)
"""Reads JSON whose objects name no key twice."""
