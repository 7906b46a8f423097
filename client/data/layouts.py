"""Layouts of a language model's rows: those whose columns the settings name, and those known by their columns.

A file is read by the first layout whose columns it has. All known layouts are in one table, `KNOWN`.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
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
        tools: columns that may have the tools of a chat.
        history: column that may have earlier questions with their answers.
    """

    kind: Kind
    columns: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    system: str = ""
    tools: tuple[str, ...] = ()
    history: str = ""

    @property
    def all_columns(self) -> tuple[str, ...]:
        """All columns that are read where a file has them."""
        return tuple(filter(None, (*self.columns, *self.inputs, self.system, *self.tools, self.history)))

    def asked(self, columns: Collection[str]) -> tuple[str, ...]:
        """Return those of a file's columns that belong to this layout and are not its answers."""
        learned = self.columns[-1] if len(self.columns) > 1 else None
        return tuple(column for column in self.all_columns if column in columns and column != learned)

    def named_as(self, columns: Collection[str]) -> "Layout":
        """Return the layout with its columns named as a file has them, where only capital letters differ."""
        alike = {column.casefold(): column for column in columns}

        def own(*names: str) -> tuple[str, ...]:
            return tuple(name if name in columns else alike.get(name, name) for name in names)

        (system, history), tools = own(self.system, self.history), own(*self.tools)
        return Layout(self.kind, own(*self.columns), own(*self.inputs), system, tools, history)


_TOOLS = ("tools", "functions")
KNOWN: tuple[Layout, ...] = (
    Layout("chat", ("conversations",), system="system", tools=_TOOLS),  # ShareGPT
    Layout("chat", ("conversation",), system="system", tools=_TOOLS),
    Layout("instruction", ("instruction", "output"), ("input",), "system", history="history"),  # Alpaca
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
    if TASKS[data.task].seq2seq:
        return _first((each.named_as(columns) for each in two_texts(data)), columns)
    return _first(_named(data), columns) or known_layout(columns)


def two_texts(data: RowSettings) -> tuple[Layout, ...]:
    """Return the layouts that have a text to read and one to write."""
    known = (each for each in KNOWN if each.kind == "instruction")
    return Layout("pair", (data.prompt, data.completion)), *known, *PAIRS


def known_layout(columns: Collection[str]) -> Layout | None:
    """Return the known layout that a file with these columns has; None if there is none."""
    return _first((each.named_as(columns) for each in KNOWN), columns)


def _first(layouts: Iterable[Layout], columns: Collection[str]) -> Layout | None:
    return next((each for each in layouts if all(name in columns for name in each.columns)), None)


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
    yield Layout("chat", (data.messages,), tools=_TOOLS)
    yield Layout("pair", (data.prompt, data.completion))
    yield Layout("text", (data.text,))


def unread(read: Collection[str], columns: Collection[str]) -> Iterator[tuple[str, Layout]]:
    """Yield each column that a known layout asks with and that is not read, though others of that layout are."""
    told: set[str] = set()
    for layout in (each.named_as(columns) for each in KNOWN):
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
