"""Rows as the model sees them, for a terminal: tokens that carry loss in colour, or between marks without one."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.console import Console
from rich.text import Text

from client.checking.seen_rows import Seen, SeenRow, Span
from common.errors import printable

LEFT, RIGHT = "⟦", "⟧"
"""Marks around tokens that carry loss, where there is no colour."""


def has_colour(console: Console) -> bool:
    """Return whether a console shows colours."""
    return console.color_system is not None and not console.no_color


def legend(colour: bool) -> Text:
    """Return how to read the rows."""
    if colour:
        return Text.assemble(
            "tokens that carry loss are ", ("green", "bold green"), ", special ones ", ("cyan", "cyan")
        )
    return Text(f"tokens between {LEFT} and {RIGHT} carry loss")


def row_lines(row: SeenRow, colour: bool) -> Iterator[Text]:
    """Yield the lines that show a row."""
    for part in row.parts:
        yield Text(_heading(row, part), style="bold" if colour else "")
        yield _coloured(part.spans) if colour else _marked(part.spans)
    if row.target is not None:
        yield Text.assemble("target: ", (printable(row.target), "bold green" if colour else ""))


def _heading(row: SeenRow, part: Seen) -> str:
    loss = f", {part.learned} carry loss" if row.target is None else ""
    return f"row {row.number}{', ' if part.name else ''}{part.name}: {part.tokens} tokens{loss}"


def _coloured(spans: Iterable[Span]) -> Text:
    return Text.assemble(*((printable(span.text), _style(span)) for span in spans), overflow="fold")


def _style(span: Span) -> str:
    return "bold green" if span.learned else "cyan" if span.special else ""


def _marked(spans: Iterable[Span]) -> Text:
    texts = [(learned, "".join(span.text for span in group)) for learned, group in groupby(spans, lambda s: s.learned)]
    line = "".join(f"{LEFT}{text}{RIGHT}" if learned else text for learned, text in texts)
    return Text(printable(line), overflow="fold")
