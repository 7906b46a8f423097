"""A file of rows without settings: its columns, what they suggest, and the keys to set."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console, RenderableType

from client.checking.advice import Advice
from client.checking.lengths import spread
from client.checking.page import advice_lines, facts, plain, section, spelt, spread_parts, table
from client.columns.layout import Layout
from client.columns.survey import Column, Survey
from client.data.labels import similar_labels
from client.data.targets.listed import listed
from client.objectives.encoding import Findings
from common.settings.tasks import MULTI, REGRESSION

_SHOWN = 20


def show_data(file: Path, found: Survey, layout: Layout | None, console: Console) -> None:
    """Print what a file of rows has; what to change is printed apart."""
    section(console, "Rows", *_rows(file, found))
    section(console, "Columns", _columns(found))
    if layout is None:
        return
    columns = ", ".join(f"{key} {name!r}" for key, name in layout.columns.items())
    section(console, "Layout", *facts([("task", layout.task), ("columns", columns), ("because", layout.why)]))
    section(console, "Lengths", *_lengths(found, layout))
    if layout.labels and layout.problem_type != REGRESSION:
        section(console, "Labels", *_labels(found.column(layout.columns["label"]), layout))


def show_settings(advice: list[Advice], console: Console) -> None:
    """Print what to set."""
    section(console, "What to change", *advice_lines(advice))


def settings_for(found: Survey, layout: Layout | None) -> Iterator[Advice]:
    """Yield the keys to set in a node's file or a recipe's [data], and what is wrong with the rows."""
    if found.bad:
        why = f"{len(found.bad)} of {found.rows + len(found.bad)} rows cannot be read; or fix them"
        yield Advice("skip_bad_rows = true", why)
    if layout is None:
        yield Advice("give rows that have a text", "no column has any")
        return
    for key, value in layout.settings.items():
        found_by = key in ("task", "problem_type")
        yield Advice(toml_line(key, value), layout.why if found_by else f"the default is {key!r}")
    if layout.labels and layout.problem_type != REGRESSION:
        yield Advice(toml_line("labels", layout.labels), "of a node; in one order at all nodes. A recipe finds them")
    empty = {name: found.rows - found.column(name).filled for name in layout.columns.values()}
    for name in (name for name, count in empty.items() if count):
        yield Advice(
            f"fill {name!r}, or set skip_bad_rows = true", f"it is empty in {empty[name]} of {found.rows} rows"
        )
    if layout.labels and (warning := _alike(found.column(layout.columns["label"]), layout)):
        yield Advice("write labels alike", warning)


def toml_line(key: str, value: object) -> str:
    """Return a line of TOML that sets this key; a list stays on its line."""
    if isinstance(value, tuple | list):
        return f"{key} = [{', '.join(toml_line('x', each).removeprefix('x = ') for each in value)}]"
    return tomli_w.dumps({key: value}).strip()


def _alike(column: Column, layout: Layout) -> str | None:
    counts = {label: count for label, count in _counts(column, layout).items() if isinstance(label, str)}
    return None if layout.problem_type == REGRESSION else similar_labels(column.name, counts)


def _counts(column: Column, layout: Layout) -> Mapping[Any, int]:
    """Return the rows of each label; of lists, those that have it."""
    if layout.problem_type != MULTI:
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


def _lengths(found: Survey, layout: Layout) -> Iterator[RenderableType]:
    for key, name in layout.columns.items():
        if key != "label" and len(sizes := found.column(name).sizes):
            yield plain(f"{name}:")
            yield from spread_parts(spread(sizes), "characters")


def _labels(column: Column, layout: Layout) -> Iterator[RenderableType]:
    made, rows = table("", "rows"), sorted(_counts(column, layout).items(), key=lambda each: -each[1])
    for value, count in rows[:_SHOWN]:
        made.add_row(plain(spelt(str(value))), str(count))
    yield made
    if rest := rows[_SHOWN:]:
        yield plain(f"and {len(rest)} others, in {sum(count for _, count in rest)} rows")
