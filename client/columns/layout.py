"""The task and the columns that a file of rows suggests, by the names and values of its columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from client.columns.survey import Column, Survey
from client.data.targets.listed import listed
from client.data.targets.names import LEAST, names_for
from common.settings.tasks import MULTI, REGRESSION, SINGLE, Problem, RowSettings

_TEXTS = ("text", "sentence", "body", "content", "review", "message", "document", "utterance", "query", "question")
_LABELS = ("label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "queue", "tag")
_PROMPTS = ("prompt", "instruction", "question", "input", "query", "source")
_ANSWERS = ("completion", "response", "output", "answer", "answers", "target", "summary")
_SURE = ("completion", "response", "output")
"""Names of answers, however few different ones there are."""
_OWNERS = ("client", "owner", "site", "hospital", "node", "institute", "organisation", "organization", "branch")
_SCORES = ("score", "rating", "similarity", "stars")
"""Names of numbers to learn where there is only a text beside them; elsewhere they are often told of a text."""
_MOST_LABELS = 200
_WHY = {SINGLE: "{} has {} values", MULTI: "{} has lists of {} labels", REGRESSION: "{} has numbers that are not whole"}
_FEW = 0.2
"""Share of the rows below which the number of different values makes a column one of labels."""


@dataclass(frozen=True)
class Layout:
    """What a file suggests.

    Args:
        task: of its rows.
        columns: column by key of `RowSettings`.
        labels: in order, for a task that has them.
        why: says how it was recognised.
        problem_type: what a row has, for a task that has labels.
    """

    task: str
    columns: Mapping[str, str]
    labels: tuple[str, ...] = ()
    why: str = ""
    problem_type: Problem = SINGLE

    @property
    def settings(self) -> dict[str, Any]:
        """The keys to set: those whose defaults do not say it already."""
        default = RowSettings()
        wanted = {"task": self.task, **self.columns}
        kind = {} if self.problem_type == SINGLE else {"problem_type": self.problem_type}
        return {key: value for key, value in wanted.items() if getattr(default, key) != value} | kind


def recognise(found: Survey, label: str | None = None) -> Layout | None:
    """Return what the columns suggest; None if there is no text to learn from.

    Args:
        found: the columns.
        label: the column of the label, where it is known.
    """
    if label is not None:
        return next((each for each in (_classes(found, label),) if each), None)
    return next((layout for read in (_chat, _pairs, _answers, _labelled, _texts) if (layout := read(found))), None)


def owner_column(found: Survey) -> str | None:
    """Return the column that names the owner of each row, if one has such a name and at least two values."""
    name = _named(found, _OWNERS, ("text", "number"))
    return name if name and len(found.column(name).values) > 1 else None


def _chat(found: Survey) -> Layout | None:
    chats = [each.name for each in found.columns if each.kind == "chat"]
    return Layout("causal-lm", {"messages": chats[0]}, why=f"{chats[0]!r} has chats") if chats else None


def _pairs(found: Survey) -> Layout | None:
    chosen, rejected = _named(found, ("chosen",)), _named(found, ("rejected",))
    prompt = _named(found, _PROMPTS)
    if not (chosen and rejected and prompt):
        return None
    columns = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return Layout("preference", columns, why=f"{chosen!r} and {rejected!r} are answers to {prompt!r}")


def _answers(found: Survey) -> Layout | None:
    prompt, answer = _named(found, _PROMPTS), _named(found, _ANSWERS)
    if not (prompt and answer) or (answer.lower() not in _SURE and _is_label(found.column(answer), found.rows)):
        return None
    return Layout("causal-lm", {"prompt": prompt, "completion": answer}, why=f"{answer!r} answers {prompt!r}")


def _labelled(found: Survey) -> Layout | None:
    named = [name for each in _LABELS if (name := _named(found, (each,), ("text", "number", "truth", "list")))]
    named += [each.name for each in found.columns if len(found.columns) == 2 and each.name.lower() in _SCORES]
    owners = set(_OWNERS)
    likely = [each for each in found.columns if _is_label(each, found.rows) and not each.fractions]
    fitting = [each.name for each in likely if each.name.lower() not in owners]
    return next((layout for name in [*named, *fitting] if (layout := _classes(found, name))), None)


def _classes(found: Survey, label: str) -> Layout | None:
    """Return the layout of texts with this label, if there is a text and the labels are not too few or many."""
    text, column = _main_text(found, label), found.column(label)
    problem = _problem(column)
    labels = names_for(problem, column.values)
    if text is None or not LEAST[problem] <= len(labels) <= _MOST_LABELS:
        return None
    columns = {"text": text, "label": label}
    return Layout("classification", columns, labels, _WHY[problem].format(repr(label), len(labels)), problem)


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


def _texts(found: Survey) -> Layout | None:
    text = _main_text(found, None)
    return Layout("causal-lm", {"text": text}, why=f"{text!r} is the only text") if text else None


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
