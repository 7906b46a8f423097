"""A file of rows, whatever its format, as a stream; and the settings by which it is read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from client.data.rows import BadLine, Row

Item: TypeAlias = Row | BadLine

LONGEST = 16 << 20
"""Most characters of one row: more is a file without ends of lines, or with quotes that do not end."""
TOO_LONG = f"is longer than {LONGEST >> 20} MiB, more than a row can be; split it"


@dataclass
class Meter:
    """How far the reading of a file is.

    Args:
        consumed: returns the bytes read so far, after decompression.
        share: returns the part of the file that is read, from 0 to 1.
    """

    consumed: Callable[[], int] = field(default=lambda: 0)
    share: Callable[[], float] = field(default=lambda: 0.0)


@dataclass(frozen=True)
class Part:
    """A file of rows.

    Args:
        file: its path.
        unit: what the rows are counted in: "line" or "row".
        columns: reads the columns that any row has, in order of first appearance.
        items: yields rows and places without one, and lets the meter tell how far it is.
    """

    file: Path
    unit: str
    columns: Callable[[], tuple[str, ...]]
    items: Callable[[Meter], Iterator[Item]]
