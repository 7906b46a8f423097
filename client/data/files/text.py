"""Lines of text files: plain or packed, in UTF-8 or another encoding, each of a bounded length."""

import bz2
import gzip
import lzma
import os
import re
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, lookup
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

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
_PACKED: dict[bytes, tuple[str, Callable[[BufferedReader], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda raw: gzip.GzipFile(fileobj=raw)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\0": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("Zstandard", lambda raw: pa.CompressedInputStream(raw, "zstd")),
}
"""What a packed file begins with: the name of its format, and what unpacks it."""
_FOREIGN = {
    b"PAR1": "a Parquet file; name it .parquet",
    b"ARROW1": "an Arrow file; name it .arrow",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of an old Excel; save it as CSV",
    b"%PDF": "a PDF; give rows",
    b"SQLite format 3\0": "a database; give rows of it as CSV or JSON Lines",
}
"""What files begin with that are no text."""
_ESCAPED = re.compile("[\udc80-\udcff]")
"""A byte that the encoding does not have, as `surrogateescape` decodes it."""
_CONTROL = re.compile("[\x80-\x9f]")
"""What Latin-1 has of the bytes that Windows has letters and signs for."""


@contextmanager
def open_text(path: Path, encoding: str, meter: Meter | None = None, newline: str = "\n") -> Iterator[TextIOWrapper]:
    """Open a file of text, unpacked if it is packed; a byte order mark at its beginning tells its encoding.

    Args:
        path: of the file.
        encoding: of a file without such a mark.
        meter: is set to tell how far the file is read.
        newline: as for `open`.

    Raises:
        DataError: it cannot be read, is damaged, or has another encoding.
    """
    with opened(path) as raw:
        packed, binary = _unpacked(raw)
        name = encoding
        if meter:
            size = max(1, os.fstat(raw.fileno()).st_size)
            meter.consumed, meter.share = binary.tell, lambda: raw.tell() / size
        try:
            name = _encoding(path, binary, encoding)
            errors = "strict" if name.startswith(_WIDE) else "surrogateescape"
            yield TextIOWrapper(cast(IO[bytes], binary), name, errors, newline)
        except UnicodeError as error:
            raise DataError(f"{path} is not {name} ({getattr(error, 'reason', error)}); {ENCODING_REMEDY}") from None
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # Of the disk.
                raise
            raise DataError(f"{path} cannot be unpacked as {packed} ({error}); pack it again") from None
        finally:
            if meter:
                consumed = binary.tell()
                meter.consumed, meter.share = lambda: consumed, lambda: 1.0


ENCODING_REMEDY = (
    'set encoding to that of the file, such as "latin-1" (in a recipe: [data] encoding; of rows alone: --encoding), or '
    "save it as UTF-8"
)
"""What to do about a file of rows in another encoding than it is read in."""


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
        what = error.strerror or str(error)
        raise DataError(f"cannot read {path}: {what}; give the path of a file of rows") from None


def _unpacked(raw: BufferedReader) -> tuple[str, BufferedReader]:
    """Return the name of a packed file's format, "" of a plain one, and its content."""
    head = raw.peek(8)
    for mark, (name, unpack) in _PACKED.items():
        if head.startswith(mark):
            return name, BufferedReader(_Unpacked(unpack(raw)))
    return "", raw


class _Unpacked(RawIOBase):
    """The content of a packed file; what unpacks it may not tell how much that is."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._count = stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._count += len(data)
        return len(data)

    def tell(self) -> int:
        return self._count


def _encoding(path: Path, binary: BufferedReader, given: str) -> str:
    """Return the name of a file's encoding.

    Raises:
        DataError: its beginning is that of a file that is no text.
    """
    head = binary.peek(16)
    if what := next((what for mark, what in _FOREIGN.items() if head.startswith(mark)), None):
        raise DataError(f"{path} is {what}")
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
    """Check that a text as read is in its encoding, as far as that can be told, and has no NUL.

    Raises:
        BadRow: a byte is of another encoding, or all of them are UTF-8 where an encoding of single bytes is given.
    """
    if not text.isascii():
        if _is_utf_8(text, encoding):
            raise BadRow(f"is UTF-8, not {encoding.upper()}; leave out encoding (in a recipe: [data] encoding)")
        if found := _ESCAPED.search(text):
            raise BadRow(f"is not {encoding.upper()} (byte 0x{ord(found[0]) - 0xDC00:02x}); {ENCODING_REMEDY}")
        if (found := _CONTROL.search(text)) and lookup(encoding).name == "iso8859-1":
            remedy = 'set encoding = "cp1252" (in a recipe: [data] encoding), which has a letter or sign for it'
            raise BadRow(f"has the byte 0x{ord(found[0]):02x}, no letter of {encoding.upper()}; {remedy}")
    if "\0" in text:
        raise BadRow("contains a NUL byte; the file is damaged, or in an encoding to be named, as utf-16")


def _is_utf_8(text: str, encoding: str) -> bool:
    """Return whether a text that is not ASCII, and was read by an encoding of single bytes, has the bytes of UTF-8."""
    if lookup(encoding).name.startswith("utf"):
        return False
    try:
        data = text.encode(encoding, "surrogateescape")
        return len(data) == len(text) and len(data.decode("utf-8")) < len(text)
    except UnicodeError:
        return False
