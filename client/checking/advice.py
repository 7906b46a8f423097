"""What to change before a run, from what was read: concrete settings where there are such."""

from collections.abc import Iterator
from dataclasses import dataclass

from client.checking.checked import Checked
from client.checking.lengths import CUT, better_limit, count_longer
from client.checking.target_counts import count_numbers
from client.model.precision import stored_dtype

_FEW = 2
ALIKE, UNREAD = "write labels alike", "see to a column"
_LARGE = 10.0
"""A number so far from 0 takes many steps to reach."""


@dataclass(frozen=True)
class Advice:
    """Something to change: `setting` is a key and its value, or what to do; and why."""

    setting: str
    why: str


def advise(checked: Checked, key: str = "", base_key: str = "") -> Iterator[Advice]:
    """Yield what to change.

    Args:
        checked: what a run would read.
        key: what stands before a key of rows in the file, as "[data] ".
        base_key: the same of the base model.
    """
    yield from _length(checked, key)
    yield from _precision(checked, base_key)
    yield from _rows(checked)
    yield from _labels(checked)
    yield from _scale(checked)


def _length(checked: Checked, key: str) -> Iterator[Advice]:
    limit = better_limit(checked.uncut, checked.base.positions)
    if checked.cut <= CUT * checked.count:
        return
    cut = f"{checked.cut} of {checked.count} rows ({checked.cut / checked.count:.1%}) are cut"
    if (left := count_longer(checked.uncut, limit)) < checked.cut:
        yield Advice(f"{key}max_length = {limit}", f"{cut}; this cuts {left or 'none'}, and needs more memory and time")
    else:
        yield Advice("split long rows", f"{cut}, and the base has {checked.base.positions} positions")


def _precision(checked: Checked, key: str) -> Iterator[Advice]:
    stored = str(stored_dtype(checked.base.folder)).removeprefix("torch.")
    if checked.node.base.dtype == "float32" and stored != "float32":
        why = f"the base is stored in {stored} and held in float32, twice the size"
        yield Advice(f'{key}dtype = "auto"', f"{why}; all nodes may differ in this")


def _rows(checked: Checked) -> Iterator[Advice]:
    repeats, held = checked.repeats, sum(map(len, checked.held.values()))
    if skipped := len(checked.found.skipped):
        yield Advice(f"fix {_rows_of(skipped)} in {checked.source}", "they cannot be used and are left out")
    if repeats.again > CUT * checked.count:
        why = f"as the model sees them, {repeats.again} of {checked.count} equal an earlier one"
        yield Advice(f"remove repeated rows from {checked.source}", why)
    if repeats.known:
        why = f"{repeats.known} of {held} rows held out are also trained on, so what they measure flatters the run"
        yield Advice("keep equal rows out of what is held out, as by removing them", why)
    for warning in checked.found.unread:
        yield Advice(UNREAD, warning)


def _labels(checked: Checked) -> Iterator[Advice]:
    if checked.repeats.disputed and checked.names:
        why = f"{checked.repeats.disputed} rows have the tokens of a row with another label"
        yield Advice("decide on one label for equal texts", why)
    for warning in checked.found.alike:
        yield Advice(ALIKE, warning)
    counts = checked.labels
    few = [repr(name) for name, total in zip(counts.rows, counts.totals(), strict=True) if 0 < total <= _FEW]
    if few:
        shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        yield Advice("add rows of rare labels, or merge them with others", f"at most {_FEW} rows: {shown}")


def _scale(checked: Checked) -> Iterator[Advice]:
    """Yield what to do with numbers that are far from what a model gives at the start, which is about 0."""
    data = checked.node.data
    groups = {name: rows.rows for name, rows in checked.groups.items()} if data.has_numbers else {}
    for each in count_numbers(groups, data.labels)[-len(data.labels) :] if groups else ():
        if max(abs(each.least), abs(each.most)) > _LARGE:
            why = f"{each.output} is {each.mean:.4g} on average and up to {each.most:.4g}; a new head begins at 0"
            yield Advice(f"scale the numbers of {data.label!r} to about -1 to 1, alike at all nodes", why)


def _rows_of(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"
