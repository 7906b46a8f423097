"""Layouts of a language model's rows: those whose columns the settings name, and those known by their columns.

A file is read by the first layout whose columns it has. All known layouts are in one table, `KNOWN`.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from client.data.rows import Row, column_names
from common.settings.tasks import TASKS, RowSettings

Kind = Literal["chat", "pair", "text", "instruction"]


@dataclass(frozen=True)
class Layout:
    """A layout.

    Args:
        kind: a chat, a prompt and completion as they are, a text, or an instruction with its output.
        columns: that a file has to have; what is learned comes last.
        inputs: columns that may have more of the question.
        system: column that may have a system's turn.
        tools: column that may have the tools of a chat.
        ignored: columns that others read, and fedlora does not.
    """

    kind: Kind
    columns: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    system: str = ""
    tools: str = ""
    ignored: tuple[str, ...] = ()

    @property
    def all_columns(self) -> tuple[str, ...]:
        """All columns that are read where a file has them."""
        return tuple(filter(None, (*self.columns, *self.inputs, self.system, self.tools)))

    def asked(self, columns: Collection[str]) -> tuple[str, ...]:
        """Return those of a file's columns that belong to this layout and are not its answers."""
        learned = self.columns[-1] if len(self.columns) > 1 else None
        all_columns = (*self.all_columns, *self.ignored)
        return tuple(column for column in all_columns if column in columns and column != learned)


KNOWN: tuple[Layout, ...] = (
    Layout("chat", ("conversations",), system="system", tools="tools"),  # ShareGPT
    Layout("chat", ("conversation",), system="system", tools="tools"),
    Layout("instruction", ("instruction", "output"), ("input",), "system", ignored=("history",)),  # Alpaca
    Layout("instruction", ("instruction", "response"), ("context", "input"), "system"),  # Dolly
    Layout("instruction", ("question", "response"), (), "system_prompt"),  # OpenOrca
    Layout("instruction", ("question", "answer"), ("context",)),
    Layout("instruction", ("prompt", "response"), (), "system"),
    Layout("instruction", ("query", "response")),
)
"""Layouts that are known by their columns; the first that fits is taken."""

PAIRS: tuple[Layout, ...] = (
    Layout("pair", ("source", "target")),
    Layout("pair", ("document", "summary")),  # XSum
    Layout("pair", ("article", "highlights")),  # CNN and Daily Mail
    Layout("pair", ("dialogue", "summary")),  # SAMSum
    Layout("pair", ("text", "summary")),
)
"""Layouts of two texts, of which an encoder reads one and a decoder writes the other; after KNOWN's instructions."""


def find_layout(data: RowSettings, columns: Collection[str]) -> Layout | None:
    """Return the layout of a file with these columns; None if there is none."""
    layouts = two_texts(data) if TASKS[data.task].seq2seq else (*_named(data), *KNOWN)
    return next((each for each in layouts if all(name in columns for name in each.columns)), None)


def two_texts(data: RowSettings) -> tuple[Layout, ...]:
    """Return the layouts that have a text to read and one to write."""
    known = (each for each in KNOWN if each.kind == "instruction")
    return Layout("pair", (data.prompt, data.completion)), *known, *PAIRS


def answers_layout(data: RowSettings) -> Layout:
    """Return the layout of two answers to a prompt."""
    return Layout("pair", (data.chosen, data.rejected))


def learned_as(data: RowSettings, rows: Sequence[Row]) -> Layout | None:
    """Return the layout of a language model's rows; that of a chat where those of a pair are lists of messages."""
    answers = "chosen" in TASKS[data.task].columns
    layout = answers_layout(data) if answers else find_layout(data, column_names(rows))
    if layout and layout.kind == "pair" and has_messages(rows, layout):
        return replace(layout, kind="chat")
    return layout


def has_messages(rows: Sequence[Row], layout: Layout) -> bool:
    """Return whether a column of the layout has lists."""
    return any(isinstance(row.fields.get(column), list) for row in rows for column in layout.columns)


def _named(data: RowSettings) -> Iterator[Layout]:
    yield Layout("chat", (data.messages,), tools="tools")
    yield Layout("pair", (data.prompt, data.completion))
    yield Layout("text", (data.text,))


def unread(read: Collection[str], columns: Collection[str]) -> Iterator[tuple[str, Layout]]:
    """Yield each column that a known layout asks with and that is not read, though others of that layout are."""
    told: set[str] = set()
    for layout in KNOWN:
        if set(read).intersection(layout.columns):
            for column in layout.asked(columns):
                if column not in (*read, *told):
                    told.add(column)
                    yield column, layout


def known_layouts() -> str:
    """Return the known layouts for a message."""
    return _spell(KNOWN)


def known_pairs() -> str:
    """Return those of two texts."""
    return _spell([*(each for each in KNOWN if each.kind == "instruction"), *PAIRS])


def _spell(layouts: Sequence[Layout]) -> str:
    return "; ".join(" and ".join(map(repr, layout.columns)) for layout in layouts)
