"""What a run would read, as sections for a terminal or a file."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from client.checking.advice import Advice
from client.checking.base_facts import base_facts
from client.checking.checked import TRAINED, Checked
from client.checking.label_counts import shortened
from client.checking.lengths import CUT, Spread, count_longer, limit_for, spread
from client.checking.repeats import examples_of
from client.checking.row_text import has_colour, legend, row_lines
from client.checking.seen_rows import see
from client.checking.target_counts import count_numbers, set_sizes
from client.objectives.examples import Examples, count_predictions
from common.errors import printable
from common.settings.tasks import MULTI, REGRESSION, SINGLE, TASKS, problem_of

_SHOWN_GROUPS = 20
_TARGETS = {
    SINGLE: "the target is the label",
    MULTI: "the target is the set of labels",
    REGRESSION: "the target is the number of each output",
}
_BAR = 24
_UNFOLDED = 10_000
"""Width at which no table is folded."""


def show(checked: Checked, advice: Sequence[Advice], console: Console) -> None:
    """Print all that was read, and what to change."""
    section(console, "Base", *facts(base_facts(checked), console))
    section(console, "Rows", _groups(checked), *_findings(checked))
    section(console, "Lengths", *_lengths(checked))
    if checked.names:
        section(console, "Labels", *_labels(checked, console.width))
    if checked.node.data.has_numbers:
        section(console, "Numbers", _number_table(checked))
    section(console, "As the model sees them", *_rows(checked, has_colour(console)))
    section(console, "What to change", *advice_lines(advice, console))


def section(console: Console, title: str, *parts: RenderableType) -> None:
    """Print a section."""
    # Without a terminal, lines are whole, so that paths can be copied and names found.
    out = console if console.is_terminal else Console(file=console.file, width=_UNFOLDED, color_system=None)
    out.print(Text(title, style="bold"))
    for part in parts:
        out.print(part, soft_wrap=isinstance(part, Text) and not console.is_terminal)
    out.print()


def plain(text: str) -> Text:
    """Return text that cannot act on a terminal, wrapped and never cut."""
    return Text(printable(text), overflow="fold")


def table(*headings: str) -> Table:
    """Return a table without lines, whose first column is text and the others numbers; long names are wrapped."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for number, heading in enumerate(headings):
        made.add_column(plain(heading), justify="right" if number else "left", overflow="fold")
    return made


def facts(pairs: Sequence[tuple[str, str]], console: Console) -> Iterator[Text]:
    """Yield a line for each name and value; on a terminal, a long value goes on below itself."""
    indent, width = max(len(name) for name, _ in pairs) + 2, room(console)
    for name, value in pairs:
        for number, part in enumerate(plain(value).wrap(console, width - indent)):
            yield Text.assemble((f"{'' if number else name:{indent}}", "dim"), part)


def room(console: Console) -> int:
    """Return the width at which lines are wrapped."""
    return console.width if console.is_terminal else _UNFOLDED


def _groups(checked: Checked) -> Table:
    """Return a line for each group of rows, those beyond the first few as one."""
    carries = "tokens with loss" if TASKS[checked.node.data.task].perplexity else "predictions"
    made = table("", "rows", "tokens", "cut", carries)
    groups = list(checked.groups.items())
    for name, rows in groups[:_SHOWN_GROUPS]:
        made.add_row(plain(name), *_numbers([rows]))
    if rest := [rows for _, rows in groups[_SHOWN_GROUPS:]]:
        made.add_row(f"{len(rest)} others", *_numbers(rest))
    if len(groups) > 1:
        made.add_row("all", *_numbers([rows for _, rows in groups]))
    return made


def _numbers(groups: Sequence[Examples]) -> tuple[str, ...]:
    counts = [(len(rows), _tokens(rows), rows.truncated, count_predictions(rows)) for rows in groups]
    return tuple(f"{sum(column):,}" for column in zip(*counts, strict=True))


def _tokens(rows: Examples) -> int:
    """Return the tokens of all rows, of a row with several parts those of each."""
    return sum(len(part) for row in rows.rows for _, part in examples_of(row))


def _findings(checked: Checked) -> Iterator[Text]:
    yield from (plain(line) for line in checked.found.lines())
    repeats = checked.repeats
    yield plain(f"repeated rows: {repeats.again or 'none'}" + ", as the model sees them" * bool(repeats.again))


def _lengths(checked: Checked) -> Iterator[RenderableType]:
    lengths, limit = checked.uncut, checked.node.data.max_length
    cut, nearly = count_longer(lengths, limit), limit_for(lengths, CUT)
    yield from spread_parts(spread(lengths), "tokens")
    yield plain(f"max_length = {limit} cuts {cut or 'none'}" + (f" ({cut / len(lengths):.1%})" if cut else ""))
    at_most = f"{nearly} would cut at most 1 %, " if nearly < lengths.max() else ""
    yield plain(f"max_length = {at_most}{int(lengths.max())} would cut none")


def spread_parts(found: Spread, unit: str) -> Iterator[RenderableType]:
    """Yield a line and a histogram that tell a spread of lengths."""
    words = f"shortest {found.least}, median {found.median}, 95 % up to {found.most95}, longest {found.most}"
    yield plain(f"{words} {unit}")
    spans = [f"{each.first} to {each.last}" if each.last > each.first else f"{each.first}" for each in found.bins]
    wide, most = max(map(len, spans)), max(each.rows for each in found.bins)
    for span, each in zip(spans, found.bins, strict=True):
        bar = "█" * max(each.rows > 0, round(_BAR * each.rows / most))
        yield Text(f"{span:>{wide}}  {each.rows:>{len(str(most))}}  {bar}".rstrip())


def _labels(checked: Checked, width: int) -> Iterator[RenderableType]:
    counts = checked.labels
    room = width - min(24, max(map(len, counts.rows))) - 8
    each = 2 + max(max(map(len, counts.columns)), 4)
    short = shortened(counts, max(2, room // min(each, 14)))
    made = table("", *short.columns, *(["all"] if len(short.columns) > 1 else []))
    for name, cells, total in zip(short.rows, short.cells, short.totals(), strict=True):
        made.add_row(plain(spelt(name)), *map(str, cells), *([str(total)] if len(short.columns) > 1 else []))
    yield made
    if not checked.node.data.has_classes:
        yield plain(_set_sizes(checked))
    elif any(totals := counts.totals()):
        share, most = max(totals) / sum(totals), counts.rows[totals.index(max(totals))]
        yield plain(f"always {most!r} would be right for {share:.1%}")


def _set_sizes(checked: Checked) -> str:
    sizes = set_sizes(rows.rows for rows in checked.groups.values())
    mean, none = (float(sizes.mean()), int((sizes == 0).sum())) if len(sizes) else (0.0, 0)
    return f"labels a row: {mean:.2f} on average, {sizes.max(initial=0)} at most; {none or 'no'} rows without one"


def _number_table(checked: Checked) -> Table:
    """Return a line for each group of rows and output, those beyond the first few left out."""
    outputs = checked.node.data.labels
    made = table("", *(["output"] if len(outputs) > 1 else []), "least", "mean", "most", "deviation")
    lines = count_numbers({name: rows.rows for name, rows in checked.groups.items()}, outputs)
    shown = _SHOWN_GROUPS * len(outputs)
    for each in lines if len(lines) <= shown else (*lines[: shown - len(outputs)], *lines[-len(outputs) :]):
        numbers = (f"{value:.4g}" for value in (each.least, each.mean, each.most, each.deviation))
        made.add_row(plain(each.group), *([plain(each.output)] if len(outputs) > 1 else []), *numbers)
    return made


def spelt(label: str) -> str:
    """Return a label, in quotes where blanks around it would not be seen."""
    return label if label == label.strip() else repr(label)


def _rows(checked: Checked, colour: bool) -> Iterator[Text]:
    """Yield the first two rows and the longest, of the first group."""
    name, group = next(iter(checked.trained.items()))
    rows = group.rows
    lengths = [len(row) for row in rows]
    places = sorted({*range(min(2, len(rows))), lengths.index(max(lengths))})
    data = checked.node.data
    how = legend(colour) if TASKS[data.task].generates else Text(_TARGETS[problem_of(data)])
    yield Text.assemble(f"rows {name}: ", how) if name == TRAINED else Text.assemble(f"rows of {name}: ", how)
    for place in places:
        for line in row_lines(see(place + 1, rows[place], checked.names, checked.base.tokenizer), colour):
            yield replace_overflow(line)


def replace_overflow(line: Text) -> Text:
    """Return the line so that a long word is wrapped, never cut."""
    line.overflow = "fold"
    return line


def advice_lines(advice: Sequence[Advice], console: Console) -> Iterator[Text]:
    """Yield what to change, or that nothing is; on a terminal, a long reason is on comment lines of its own."""
    width = room(console)
    if not advice:
        yield Text("nothing")
    for setting, why in ((printable(each.setting), printable(each.why)) for each in advice):
        line = Text.assemble((setting, "bold"), f"  # {why}", overflow="fold")
        if line.cell_len <= width:
            yield line
        else:
            yield Text(setting, "bold", overflow="fold")
            yield from (Text(f"  # {part}") for part in wrap(why, width - 4, break_on_hyphens=False))
