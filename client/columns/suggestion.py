"""The task and the columns that a file of rows suggests, by the names and values of its columns.

Columns that a run knows without settings (client/data/layouts.py) are left to it, as it may read more than two of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from client.columns.survey import Column, Survey
from client.data.layouts import Layout, find_layout, known_layout
from client.data.targets.listed import listed
from client.data.targets.names import LEAST, names_for
from common.errors import ModelError
from common.huggingface.base_folder import read_json, resolve_base
from common.settings.tasks import MULTI, REGRESSION, SINGLE, TASKS, Problem, RowSettings

_TEXTS = ("text", "sentence", "body", "content", "review", "message", "document", "utterance", "query", "question")
_LABELS = ("label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "queue", "tag")
_PROMPTS = (
    *("prompt", "instruction", "question", "input", "query", "source"),
    *("document", "article", "dialogue"),
)
_ANSWERS = ("completion", "response", "output", "answer", "answers", "target", "summary", "highlights")
_SURE = ("completion", "response", "output")
"""Names of answers, however few different ones there are."""
_OWNERS = ("client", "owner", "site", "hospital", "node", "institute", "organisation", "organization", "branch")
_SCORES = ("score", "rating", "similarity", "stars")
"""Names of numbers to learn where there is only a text beside them; elsewhere they are often told of a text."""
_WHY = {SINGLE: "{} has {} values", MULTI: "{} has lists of {} labels", REGRESSION: "{} has numbers that are not whole"}
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
        problem_type: what a row has, for a task that has labels.
    """

    task: str
    columns: Mapping[str, str]
    labels: tuple[str, ...] = ()
    why: str = ""
    more: tuple[str, ...] = ()
    keys: Mapping[str, str] | None = None
    problem_type: Problem = SINGLE

    @property
    def settings(self) -> dict[str, Any]:
        """The keys to set: those whose defaults do not say it already."""
        default = RowSettings()
        wanted = {"task": self.task, **(self.columns if self.keys is None else self.keys)}
        kind = {} if self.problem_type == SINGLE else {"problem_type": self.problem_type}
        return {key: value for key, value in wanted.items() if getattr(default, key) != value} | kind

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


def for_base(suggestion: Suggestion, base: str) -> Suggestion:
    """Return the suggestion for a base; one with an encoder and a decoder reads prompts and writes answers."""
    try:
        config = read_json(resolve_base(base) / "config.json")
    except ModelError:
        return suggestion  # Whoever loads the base says what is wrong.
    pairs = TASKS[suggestion.task].causal and suggestion.columns.keys() == {"prompt", "completion"}
    if not (pairs and isinstance(config, dict) and config.get("is_encoder_decoder")):
        return suggestion
    return replace(suggestion, task="seq2seq", why=f"{suggestion.why}, and the base has an encoder and a decoder")


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
    if not prompt and answer == "summary":
        prompt = _named(found, ("text",))
    if not (prompt and answer) or (answer.lower() not in _SURE and _is_label(found.column(answer), found.rows)):
        return None
    return Suggestion("causal-lm", {"prompt": prompt, "completion": answer}, why=f"{answer!r} answers {prompt!r}")


def _labelled(found: Survey) -> Suggestion | None:
    named = [name for each in _LABELS if (name := _named(found, (each,), ("text", "number", "truth", "list")))]
    named = [name for name in named if not _names_rows(found.column(name), found.rows)]
    named += [each.name for each in found.columns if len(found.columns) == 2 and each.name.lower() in _SCORES]
    owners = set(_OWNERS)
    likely = [each for each in found.columns if _is_label(each, found.rows) and not each.fractions]
    fitting = [each.name for each in likely if each.name.lower() not in owners]
    return next((made for name in [*named, *fitting] if (made := _classes(found, name))), None)


def _names_rows(column: Column, rows: int) -> bool:
    """Return whether values are as many as only names of rows are."""
    return _problem(column) == SINGLE and len(column.values) > max(_FEW_LABELS, _MANY * rows)


def _classes(found: Survey, label: str) -> Suggestion | None:
    """Return texts with this label, if there is a text and the labels are not too few or many."""
    text, column = _main_text(found, label), found.column(label)
    problem = _problem(column)
    labels = names_for(problem, column.values)
    if text is None or not LEAST[problem] <= len(labels) <= _MOST_LABELS:
        return None
    why = _WHY[problem].format(repr(label), len(labels))
    return Suggestion("classification", {"text": text, "label": label}, labels, why, problem_type=problem)


def _problem(column: Column) -> Problem:
    """Return what the rows of a column have: numbers where one is not whole, sets where they are lists."""
    if column.kind != "list":
        return REGRESSION if column.fractions else MULTI if _are_sets([*column.values]) else SINGLE
    members = (each for value in column.values if isinstance(value, tuple) for each in value)
    return REGRESSION if any(isinstance(each, float) and not each.is_integer() for each in members) else MULTI


def _are_sets(values: Sequence[Any]) -> bool:
    """Return whether texts are sets of labels: apart, they are no more different ones than together."""
    found = [listed(value) for value in values]
    pairs = zip(values, found, strict=True)
    members = {str(each) for value, own in pairs for each in ([value] if own is None else own)}
    return any(found) and len(members) <= len(values)


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
