"""The Markdown table of a comparison."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from simulations.results.records import Records
from simulations.results.statistics import Estimate, Line, lines
from simulations.results.tasks import Task, Trial, first_trials

_HEAD = (
    "| rule | exchanges x batches | rate | each seed | accuracy | loss | beyond {reference} | gap closed "
    "| MB up | down |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def lines_of(task: Task, chosen: Iterable[Trial], records: Records) -> list[Line]:
    """Return a line for each way to run a method that has records; none before both references have."""
    seeds = sorted({record.seed for record in records})
    keys = [{seed: replace(trial, seed=seed).key for seed in seeds} for trial in chosen]
    ways = [{seed: records[key] for seed, key in each.items() if key in records} for each in keys]
    named = {(record.method, record.steps): way for way in ways for record in way.values()}
    pooled, reference = (named.get((method.name, method.steps[0])) for method in task.methods[:2])
    return lines(ways, pooled, reference) if pooled and reference else []


def page(task: Task, found: Sequence[Line], records: Records, command: str, picture: str) -> str:
    """Return the page: title, how it was made, figure and table.

    Args:
        task: of the comparison.
        found: its lines.
        records: all that there are, which tell how many rates were tried.
        command: that made the page.
        picture: file of the figure.
    """
    tried = Counter((t.method.name, t.steps) for t in first_trials(task) if t.key in records)
    head = [each.format(reference=task.methods[1].name) for each in _HEAD]
    how = (
        f"{task.batches} batches a client in every row. The rate is the best of those tried, on {task.valid_rows} "
        f"validation rows of seed 1; accuracy and loss (nats) are means over the {task.predictions}, of "
        f"{task.test_rows} rows, and over the seeds. In brackets the 95 % interval of a paired bootstrap over the "
        f"{task.predictions} within seeds. Settings: {', '.join(task.settings)}."
    )
    body = [f"# {task.title}", "", f"`{command}`", "", how, "", f"![{task.title}]({picture})", ""]
    return "\n".join([*body, *head, *(_row(line, tried) for line in found), ""])


def _row(line: Line, tried: Mapping[tuple[str, int], int]) -> str:
    first, own = line.records[0], line.records
    each = " / ".join(f"{record.accuracy:.3f}" for record in own)
    up, down = (sum(getattr(record, way) for record in own) / len(own) / 1e6 for way in ("up", "down"))
    cells = (
        first.method,
        f"{first.exchanges} x {first.steps}",
        f"{first.rate:g}, of {tried[first.method, first.steps]}",
        each,
        f"{line.accuracy:.3f}",
        f"{sum(record.loss for record in own) / len(own):.3f}",
        _spell(line.gain, "+.3f", 1),
        _spell(line.closed, ".0f", 100),
        f"{up:.1f}",
        f"{down:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _spell(each: Estimate, form: str, scale: float) -> str:
    value, low, high = (format(scale * number, form) for number in (each.value, each.low, each.high))
    return f"{value} [{low}, {high}]" + (" %" if scale == 100 else "")
