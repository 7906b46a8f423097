"""A file of rows without settings: its columns, what they suggest, and the keys to set."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console, RenderableType

from client.checking.advice import ALIKE, UNREAD, Advice
from client.checking.lengths import spread
from client.checking.page import advice_lines, facts, plain, section, spelt, spread_parts, table
from client.columns.suggestion import Suggestion
from client.columns.survey import Column, Survey
from client.data.labels import similar_labels
from client.data.targets.listed import listed
from client.objectives.encoding import Findings
from client.objectives.layout_tokens import unread_notes
from common.settings.tasks import MULTI, REGRESSION

_SHOWN = 20


def show_data(file: Path, found: Survey, suggestion: Suggestion | None, console: Console, brief: bool) -> None:
    """Print what a file of rows has; what to change is printed apart, and so are lengths and labels if it is brief."""
    section(console, "File", *_rows(file, found))
    section(console, "Columns", _columns(found))
    if suggestion is None:
        return
    told = [("task", suggestion.task), ("columns", str(suggestion)), ("because", suggestion.why)]
    section(console, "Layout", *facts(told, console))
    if brief:
        return
    section(console, "Lengths", *_lengths(found, suggestion))
    if suggestion.labels and suggestion.problem_type != REGRESSION:
        section(console, "Labels", *_labels(found.column(suggestion.columns["label"]), suggestion))


def show_settings(advice: list[Advice], console: Console) -> None:
    """Print what to set."""
    section(console, "What to change", *advice_lines(advice, console))


def settings_for(found: Survey, suggestion: Suggestion | None) -> Iterator[Advice]:
    """Yield the keys to set in a node's file or a recipe's [data], and what is wrong with the rows."""
    if found.bad:
        why = f"{len(found.bad)} of {found.rows + len(found.bad)} rows cannot be read; or fix them"
        yield Advice("skip_bad_rows = true", why)
    if suggestion is None:
        yield Advice("give rows that have a text", "no column has any")
        return
    for key, value in suggestion.settings.items():
        why = f"or {key!r} is learned whole, also what asks in it" if value == "" else f"the default is {key!r}"
        yield Advice(toml_line(key, value), suggestion.why if key in ("task", "problem_type") else why)
    if suggestion.labels and suggestion.problem_type != REGRESSION:
        yield Advice(
            toml_line("labels", suggestion.labels), "of a node; in one order at all nodes. A recipe finds them"
        )
    empty = {name: found.rows - found.column(name).filled for name in suggestion.columns.values()}
    for name in (name for name, count in empty.items() if count):
        yield Advice(
            f"fill {name!r}, or set skip_bad_rows = true", f"it is empty in {empty[name]} of {found.rows} rows"
        )
    if suggestion.labels and (warning := _alike(found.column(suggestion.columns["label"]), suggestion)):
        yield Advice(ALIKE, warning)
    for note in unread_notes(suggestion.read, [each.name for each in found.columns]):
        yield Advice(UNREAD, note)


def toml_line(key: str, value: object) -> str:
    """Return a line of TOML that sets this key; a list stays on its line."""
    if isinstance(value, tuple | list):
        return f"{key} = [{', '.join(toml_line('x', each).removeprefix('x = ') for each in value)}]"
    return tomli_w.dumps({key: value}).strip()


def _alike(column: Column, suggestion: Suggestion) -> str | None:
    counts = {label: count for label, count in _counts(column, suggestion).items() if isinstance(label, str)}
    return None if suggestion.problem_type == REGRESSION else similar_labels(column.name, counts)


def _counts(column: Column, suggestion: Suggestion) -> Mapping[Any, int]:
    """Return the rows of each label; of lists, those that have it."""
    if suggestion.problem_type != MULTI:
        return column.values
    found: Counter[Any] = Counter()
    for value, count in column.values.items():
        members = listed(value)
        labels = {str(each) for each in ([value] if members is None else members)}
        found.update(dict.fromkeys(labels, count))
    return found


def _rows(file: Path, found: Survey) -> Iterator[RenderableType]:
    yield plain(f"{file}: {found.rows} rows")
    yield from (plain(f"  {line}") for line in Findings(found.bad).by_reason())


def _columns(found: Survey) -> RenderableType:
    made = table("", "kind", "filled", "different", "characters")
    for each in found.columns:
        longest = f"{each.sizes.min()} to {each.sizes.max()}" if len(each.sizes) else "-"
        many = "many" if each.kind in ("text", "number") else "-"
        made.add_row(plain(each.name), each.kind, str(each.filled), str(len(each.values) or many), longest)
    return made


def _lengths(found: Survey, suggestion: Suggestion) -> Iterator[RenderableType]:
    for key, name in suggestion.columns.items():
        if key != "label" and len(sizes := found.column(name).sizes):
            yield plain(f"{name}:")
            yield from spread_parts(spread(sizes), "characters")


def _labels(column: Column, suggestion: Suggestion) -> Iterator[RenderableType]:
    made, rows = table("", "rows"), sorted(_counts(column, suggestion).items(), key=lambda each: -each[1])
    for value, count in rows[:_SHOWN]:
        made.add_row(plain(spelt(str(value))), str(count))
    yield made
    if rest := rows[_SHOWN:]:
        yield plain(f"and {len(rest)} others, in {sum(count for _, count in rest)} rows")
