"""Lines of text files: plain or gzip, in UTF-8 or another encoding, each of a bounded length."""

import gzip
import os
import re
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, lookup
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import IO, cast

from client.data.files.part import LONGEST, Meter
from client.data.row_checks import BadRow
from common.errors import DataError
from common.plain_files import open_plain

_MARKS = {
    BOM_UTF32_LE: "utf-32",  # before UTF-16's, which begins it
    BOM_UTF32_BE: "utf-32",
    BOM_UTF16_LE: "utf-16",
    BOM_UTF16_BE: "utf-16",
    BOM_UTF8: "utf-8-sig",
}
"""What a file may begin with, and the encoding that it names."""
_WIDE = ("utf-16", "utf-32")
"""Encodings of several bytes a character, in which no single byte can be told to be wrong."""
_ESCAPED = re.compile("[\udc80-\udcff]")
"""A byte that the encoding does not have, as `surrogateescape` decodes it."""


@contextmanager
def open_text(path: Path, encoding: str, meter: Meter | None = None, newline: str = "\n") -> Iterator[TextIOWrapper]:
    """Open a file of text, unpacked if it is gzip; a byte order mark at its beginning tells its encoding.

    Args:
        path: of the file.
        encoding: of a file without such a mark.
        meter: is set to tell how far the file is read.
        newline: as for `open`.

    Raises:
        DataError: it cannot be read, is damaged, or has another encoding.
    """
    with opened(path) as raw, _plain(raw) as binary:
        name = encoding
        if meter:
            size = max(1, os.fstat(raw.fileno()).st_size)
            meter.consumed, meter.share = binary.tell, lambda: raw.tell() / size
        try:
            name = _encoding(binary, encoding)
            errors = "strict" if name.startswith(_WIDE) else "surrogateescape"
            yield TextIOWrapper(cast(IO[bytes], binary), name, errors, newline)
        except UnicodeError as error:
            raise DataError(f"{path} is not {name} ({getattr(error, 'reason', error)}); {_REMEDY}") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be unpacked as gzip ({error}); pack it again") from None
        finally:
            if meter:
                consumed = binary.tell()
                meter.consumed, meter.share = lambda: consumed, lambda: 1.0


_REMEDY = 'set encoding to that of the file, such as "latin-1" (in a recipe: [data] encoding), or save it as UTF-8'


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a plain file, or a link to one.

    Raises:
        DataError: it is something else or cannot be read, which the text says.
    """
    try:
        with open_plain(path, links=True) as file:
            yield cast(BufferedReader, file)
    except MemoryError:
        raise DataError(f"{path} has a row that is larger than the free memory; split it") from None
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise
        what = error.strerror or str(error)
        raise DataError(f"cannot read {path}: {what}; give the path of a file of rows") from None


@contextmanager
def _plain(raw: BufferedReader) -> Iterator[BufferedReader]:
    if raw.peek(2)[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=raw) as unpacked, BufferedReader(cast(RawIOBase, unpacked)) as binary:
            yield cast(BufferedReader, binary)
    else:
        yield raw


def _encoding(binary: BufferedReader, given: str) -> str:
    head = binary.peek(4)
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), lookup(given).name)


def bounded_lines(text: TextIOWrapper) -> Iterator[tuple[int, str | None]]:
    """Yield each line that is not blank, and its number from 1; None in place of one that is too long for a row."""
    number = 0
    while line := text.readline(LONGEST):
        number += 1
        if len(line) == LONGEST and not line.endswith("\n"):
            _skip_line(text)
            yield number, None
        elif not line.isspace():
            yield number, line


def _skip_line(text: TextIOWrapper) -> None:
    while (rest := text.readline(LONGEST)) and not rest.endswith("\n"):
        pass


def check_characters(text: str, encoding: str) -> None:
    """Check that a text as read has no byte of another encoding, and no NUL.

    Raises:
        BadRow: it has one.
    """
    if not text.isascii() and (found := _ESCAPED.search(text)):
        raise BadRow(f"is not {encoding.upper()} (byte 0x{ord(found[0]) - 0xDC00:02x}); {_REMEDY}")
    if "\0" in text:
        raise BadRow("contains a NUL byte; the file is damaged, or in an encoding to be named, as utf-16")
