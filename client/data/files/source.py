"""The rows that a path names: of one file, or of the files of a folder, as a stream of pieces or all at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from client.data.files.folder import files_of, is_folder_of_rows
from client.data.files.kinds import ENDINGS, part_of
from client.data.files.part import Item, Meter, Part
from client.data.row_checks import SHOWN, refusal
from client.data.rows import PIECE, BadLine, Chunk, Row
from common.errors import DataError

_BYTES = 1 << 20
"""Most bytes of a piece: to tokenise a text takes some hundred times its size."""


Watch: TypeAlias = Callable[[float], None]
"""Is told the share that is read, from 0 to 1."""


def ignore(share: float) -> None:
    """Watch nothing."""


@dataclass(frozen=True)
class Source:
    """Rows in files; each reading gives the same ones.

    Args:
        path: that was given.
        parts: the files.
    """

    path: Path
    parts: tuple[Part, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that any row has, in order of first appearance."""
        return tuple(dict.fromkeys(column for part in self.parts for column in part.columns()))

    def chunks(self, watch: Watch = ignore) -> Iterator[Chunk]:
        """Yield the rows, piece by piece; a piece is of one file.

        Raises:
            DataError: a file cannot be read, or there are no rows.
        """
        columns, found = self.columns, False
        for number, part in enumerate(self.parts):
            meter = Meter()
            for items in _pieces(part.items(meter), meter):
                rows = tuple(item for item in items if isinstance(item, Row))
                bad = tuple(item for item in items if isinstance(item, BadLine))
                found = True
                watch((number + meter.share()) / len(self.parts))
                yield Chunk(rows, columns, part.file, part.unit, bad)
        if not found:
            raise DataError(f"{self.path} contains no rows; give a file with at least one")


def _pieces(items: Iterator[Item], meter: Meter) -> Iterator[list[Item]]:
    piece: list[Item] = []
    begin = 0
    for item in items:
        piece.append(item)
        if len(piece) >= PIECE or meter.consumed() - begin >= _BYTES:
            yield piece
            piece, begin = [], meter.consumed()
    if piece:
        yield piece


def open_rows(path: Path, encoding: str = "utf-8") -> Source:
    """Return the rows that a path names: of a file, a folder of files, or a split of one, as FOLDER/train.

    Args:
        path: of the file or folder.
        encoding: of text without a byte order mark.

    Raises:
        DataError: nothing there can be read, or it is not known how.
    """
    try:
        if is_folder_of_rows(path):
            files = files_of(path, ENDINGS)
        else:
            path.stat()
            files = (path,)
    except OSError as error:
        pattern = any(each in path.name for each in "*?[") and isinstance(error, FileNotFoundError)
        remedy = "patterns are not read: give the folder" if pattern else "give the path of a file or folder of rows"
        raise DataError(f"cannot read {path}: {error.strerror}; {remedy}") from None
    return Source(path, tuple(part_of(file, encoding) for file in files))


def read_rows(path: Path, encoding: str = "utf-8") -> tuple[Row, ...]:
    """Read all rows that a path names, in order.

    Raises:
        DataError: nothing there can be read, there are no rows, or some are broken.
    """
    source = open_rows(path, encoding)
    rows: list[Row] = []
    bad: list[str] = []
    for chunk in source.chunks():
        own = chunk.file if len(source.parts) > 1 else None
        rows += chunk if own is None else (Row(row.line, row.fields, own) for row in chunk)
        bad += (f"{chunk.file}, {chunk.unit} {each.line}: {each.reason}" for each in chunk.bad)
    if bad:
        raise DataError(refusal(path, bad[:SHOWN], len(bad), len(rows) + len(bad)))
    return tuple(rows)
