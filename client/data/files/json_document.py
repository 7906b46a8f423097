"""JSON documents: one list of objects, read object by object, or an object that holds one such list."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from client.data.files.json_lines import DECODER, as_fields, parse_object, spelt_fault
from client.data.files.part import LONGEST, Item, Meter
from client.data.files.text import check_characters, open_text
from client.data.row_checks import BadRow
from client.data.rows import BadLine, Row
from common.errors import DataError

_PIECE = 1 << 16
"""Characters that are read at a time, at least."""
_BLANKS = re.compile(r"[ \t\r\n]*")
_ANY = json.JSONDecoder()
_TURN = ({"role", "content"}, {"from", "value"})
"""Keys of a chat's turns: a list of such objects belongs to one row."""


def json_list(path: Path, encoding: str, meter: Meter) -> Iterator[Item]:
    """Yield the rows of a file that is one list of objects; a row's line is its number in the list.

    Raises:
        DataError: the file cannot be read, or is no JSON.
    """
    with open_text(path, encoding, meter) as text:
        document = _Document(path, text)
        document.expect("[")
        number = 0
        while document.peek() != "]":
            number += 1
            try:
                yield Row(number, as_fields(document.value(encoding)))
            except BadRow as reason:
                yield BadLine(number, str(reason))
            if document.peek() != "]":
                document.expect(",")
        document.expect("]")
        if document.peek():
            raise document.error("there is more after the list; a file is one list, or an object on each line")


def json_object(path: Path, encoding: str, meter: Meter) -> Iterator[Item]:
    """Yield the rows of a file that is one object: those of its only list of objects, or else the object itself.

    Raises:
        DataError: the file cannot be read, is no JSON, or has several lists or columns instead of rows.
    """
    with open_text(path, encoding, meter) as text:
        content = text.read()
    try:
        value = parse_object(content, encoding)
    except BadRow as reason:
        raise DataError(f"{path} {reason}; use a list of objects, or an object on each line") from None
    for number, row in enumerate(_only_rows(path, value), start=1):
        try:
            yield Row(number, as_fields(row))
        except BadRow as reason:
            yield BadLine(number, str(reason))


def _only_rows(path: Path, value: Mapping[str, Any]) -> Sequence[Any]:
    lists = {key: each for key, each in value.items() if _is_rows(each)}
    if len(lists) > 1:
        names = ", ".join(map(repr, lists))
        raise DataError(f"{path} is an object with several lists of rows, {names}; write one of them as its own file")
    sizes = {len(each) if isinstance(each, dict | list) else -1 for each in value.values()}
    columns = len(sizes) == 1 and max(sizes) > 1 and not any(map(_is_chat, value.values()))
    by_key = len(value) > 1 and all(isinstance(each, dict) for each in value.values())
    if not lists and (columns or by_key):
        raise DataError(
            f"{path} is an object of columns, not of rows, or has rows by key; write it as a list of objects "
            '(pandas: to_json(orient="records"))'
        )
    return next(iter(lists.values()), [value])


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, dict) for e in value) and not _is_chat(value)


def _is_chat(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and any(keys <= first.keys() for keys in _TURN)


class _Document:
    """The text of a JSON document, of which only the value that is being read is in memory."""

    def __init__(self, path: Path, text: TextIOWrapper) -> None:
        self._path, self._file = path, text
        self._text, self._at, self._line, self._ended = "", 0, 1, False

    def peek(self) -> str:
        """Skip blanks and return the next character; "" at the end."""
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._fill()

    def expect(self, character: str) -> None:
        """Skip this character.

        Raises:
            DataError: another one is there.
        """
        if self.peek() != character:
            found = repr(self.peek()) if self.peek() else "the end of the file"
            raise self.error(f"expected {character!r} and found {found}")
        self._at += 1

    def value(self, encoding: str) -> Any:
        """Return the next value.

        Raises:
            BadRow: it cannot be used, but what follows it can be read.
            DataError: it is no JSON.
        """
        self.peek()
        while (end := self._end()) is None:
            self._fill()
        begin, self._at = self._at, end
        check_characters(self._text[begin:end], encoding)
        return DECODER.raw_decode(self._text, begin)[0]

    def error(self, reason: str) -> DataError:
        """Return the error that there is something else here than JSON."""
        line = self._line + self._text.count("\n", 0, self._at)
        return DataError(f"{self._path}, line {line}: is not JSON ({reason}); the rows after it cannot be told apart")

    def _end(self) -> int | None:
        """Return where the next value ends; None if that is not read yet."""
        try:
            end = _ANY.raw_decode(self._text, self._at)[1]
            return end if end < len(self._text) or self._ended else None
        except json.JSONDecodeError as error:
            if self._ended or len(self._text) - self._at > LONGEST:
                raise self.error(error.msg) from None
            return None
        except (ValueError, RecursionError) as error:
            raise self.error(spelt_fault(error)) from None

    def _fill(self) -> None:
        """Read on, twice as far each time: a long value is tried again a few times, not once for each piece."""
        piece = self._file.read(max(_PIECE, len(self._text) - self._at))
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at, self._ended = self._text[self._at :] + piece, 0, not piece
