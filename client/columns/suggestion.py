"""The task and the columns that a file of rows suggests, by the names and values of its columns.

Columns that a run knows without settings (client/data/layouts.py) are left to it, as it may read more than two of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from client.columns.survey import Column, Survey
from client.data.labels import label_names
from client.data.layouts import Layout, find_layout, known_layout
from common.settings.tasks import RowSettings

_TEXTS = ("text", "sentence", "body", "content", "review", "message", "document", "utterance", "query", "question")
_LABELS = ("label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "queue", "tag")
_PROMPTS = ("prompt", "instruction", "question", "input", "query", "source")
_ANSWERS = ("completion", "response", "output", "answer", "answers", "target", "summary")
_SURE = ("completion", "response", "output")
"""Names of answers, however few different ones there are."""
_OWNERS = ("client", "owner", "site", "hospital", "node", "institute", "organisation", "organization", "branch")
_MOST_LABELS, _FEW_LABELS = 200, 20
_MANY = 0.5
"""Share of the rows above which different values, if they are not few, are names of rows."""
_FEW = 0.2
"""Share of the rows below which the number of different values makes a column one of labels."""


@dataclass(frozen=True)
class Suggestion:
    """What a file suggests.

    Args:
        task: of its rows.
        columns: column by key of `RowSettings`, or by what a known layout takes it for.
        labels: in order, for a task that has them.
        why: says how it was found.
        more: columns of a known layout that are read where they are filled.
        keys: to set besides the task, where they are not `columns`.
    """

    task: str
    columns: Mapping[str, str]
    labels: tuple[str, ...] = ()
    why: str = ""
    more: tuple[str, ...] = ()
    keys: Mapping[str, str] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The keys to set: those whose defaults do not say it already."""
        default = RowSettings()
        wanted = {"task": self.task, **(self.columns if self.keys is None else self.keys)}
        return {key: value for key, value in wanted.items() if getattr(default, key) != value}

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.columns.values(), *self.more)

    def __str__(self) -> str:
        columns = ", ".join(f"{key} {name!r}" for key, name in self.columns.items())
        return columns + (f"; where filled {', '.join(map(repr, self.more))}" if self.more else "")


def suggest(found: Survey, label: str | None = None) -> Suggestion | None:
    """Return what the columns suggest; None if there is no text to learn from.

    Args:
        found: the columns.
        label: the column of the label, where it is known.
    """
    if label is not None:
        return _classes(found, label)
    ways = (_pairs, _known, _chat, _answers, _labelled, _texts)
    return next((suggestion for read in ways if (suggestion := read(found))), None)


def owner_column(found: Survey) -> str | None:
    """Return the column that names the owner of each row, if one has such a name and at least two values."""
    name = _named(found, _OWNERS, ("text", "number"))
    return name if name and len(found.column(name).values) > 1 else None


def _pairs(found: Survey) -> Suggestion | None:
    """Return preferences: answers to a prompt, or chats that may begin with it."""
    kinds = ("text", "chat")
    chosen, rejected = _named(found, ("chosen",), kinds), _named(found, ("rejected",), kinds)
    prompt = _named(found, _PROMPTS, kinds)
    if not (chosen and rejected) or (prompt is None and found.column(chosen).kind == "text"):
        return None
    columns = {**({"prompt": prompt} if prompt else {}), "chosen": chosen, "rejected": rejected}
    return Suggestion("preference", columns, why=f"{chosen!r} and {rejected!r} are answers")


def _known(found: Survey) -> Suggestion | None:
    """Return the layout that a run knows by its columns; one with a text beside it only if the text is put aside."""
    names, aside = [each.name for each in found.columns], {}
    layout = find_layout(RowSettings(task="causal-lm"), names)
    if layout and layout.kind == "text":
        layout, aside = known_layout(names), {"text": ""}
    if layout is None or not _fits(layout, found):
        return None
    roles = ("messages",) if layout.kind == "chat" else ("prompt", "completion")
    more = tuple(name for name in layout.all_columns if name in names and name not in layout.columns)
    why = f"the layout of {' and '.join(map(repr, layout.columns))} is known"
    return Suggestion("causal-lm", dict(zip(roles, layout.columns, strict=True)), (), why, more, aside)


def _fits(layout: Layout, found: Survey) -> bool:
    """Return whether the values are of the layout's kinds, and its answers are not a few words, as labels are."""
    columns, answer = [found.column(name) for name in layout.columns], found.column(layout.columns[-1])
    if layout.kind == "chat":
        return answer.kind == "chat"
    label = answer.name.lower() not in _SURE and _is_label(answer, found.rows)
    return all(column.kind in ("text", "chat") for column in columns) and not label


def _chat(found: Survey) -> Suggestion | None:
    chats = [each.name for each in found.columns if each.kind == "chat"]
    return Suggestion("causal-lm", {"messages": chats[0]}, why=f"{chats[0]!r} has chats") if chats else None


def _answers(found: Survey) -> Suggestion | None:
    prompt, answer = _named(found, _PROMPTS), _named(found, _ANSWERS)
    if not (prompt and answer) or (answer.lower() not in _SURE and _is_label(found.column(answer), found.rows)):
        return None
    return Suggestion("causal-lm", {"prompt": prompt, "completion": answer}, why=f"{answer!r} answers {prompt!r}")


def _labelled(found: Survey) -> Suggestion | None:
    named = [name for each in _LABELS if (name := _named(found, (each,), ("text", "number", "truth")))]
    named = [name for name in named if len(found.column(name).values) <= max(_FEW_LABELS, _MANY * found.rows)]
    owners = set(_OWNERS)
    fitting = [each.name for each in found.columns if _is_label(each, found.rows) and each.name.lower() not in owners]
    return next((made for name in [*named, *fitting] if (made := _classes(found, name))), None)


def _classes(found: Survey, label: str) -> Suggestion | None:
    """Return texts with this label, if there is a text and the labels are neither one nor too many."""
    text, values = _main_text(found, label), found.column(label).values
    labels = label_names(values)
    if text is None or not 2 <= len(labels) <= _MOST_LABELS:
        return None
    return Suggestion("classification", {"text": text, "label": label}, labels, f"{label!r} has {len(labels)} values")


def _texts(found: Survey) -> Suggestion | None:
    text = _main_text(found, None)
    return Suggestion("causal-lm", {"text": text}, why=f"{text!r} is the only text") if text else None


def _is_label(column: Column, rows: int) -> bool:
    return column.kind in ("text", "number", "truth") and 2 <= len(column.values) <= min(_MOST_LABELS, _FEW * rows)


def _main_text(found: Survey, other: str | None) -> str | None:
    """Return the column of texts by its name, or that with the longest."""
    texts = [each for each in found.columns if each.kind == "text" and each.name != other]
    named = next((each.name for name in _TEXTS for each in texts if each.name.lower() == name), None)
    return named or max(texts, key=lambda each: each.sizes.mean(), default=_NONE).name or None


_NONE = Column("", "empty", 0, [], MappingProxyType({}))  # type: ignore[arg-type]


def _named(found: Survey, names: Sequence[str], kinds: Sequence[str] = ("text",)) -> str | None:
    """Return the first column of these kinds that has one of these names, in the order of the names."""
    return next(_matching(found, names, kinds), None)


def _matching(found: Survey, names: Sequence[str], kinds: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield from (each.name for each in found.columns if each.name.lower() == name and each.kind in kinds)
