"""The page of the comparison of heads: a table for each case."""

from collections.abc import Mapping

from simulations.results.heads.cases import BATCHES, ROWS, Case
from simulations.results.records import Record, Records
from simulations.results.statistics import Line, lines

_HEAD = (
    "| head | each seed | accuracy | loss | beyond trained | MB up | down |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def page(records: Mapping[Case, Records]) -> str:
    """Return the page: a table for each case that has records."""
    how = (
        f"{BATCHES} batches a client in every training. Accuracy and loss (nats) are means over {ROWS[0]} test rows "
        "and the seeds; in brackets the 95 % interval of a paired bootstrap over the test rows within seeds. `alone`: "
        "the head before round 1, nothing is trained. `start`: trained from it. `start and refit`: made again under "
        "the trained update, and kept if it is better on the rows that the clients hold out; this is `[lora] head`. A "
        "new pooler is a module of the head, and is trained. MB are those of the whole run."
    )
    body = ["# Heads in closed form", "", "`python -m simulations.results.heads`", "", how, ""]
    for case, found in records.items():
        if rows := _rows(found):
            body += [f"## {case.title}", "", *_HEAD, *rows, ""]
    return "\n".join(body)


def _rows(found: Records) -> list[str]:
    ways: dict[str, dict[int, Record]] = {}
    for record in found:
        ways.setdefault(record.method, {})[record.seed] = record
    trained = ways.get("trained")
    if not trained:
        return []
    found_lines = lines([ways[name] for name in sorted(ways, key=_order)], trained, trained)
    return [_row(line) for line in found_lines]


def _row(line: Line) -> str:
    first, gain = line.records[0], line.gain
    cells = (
        first.method,
        " / ".join(f"{record.accuracy:.3f}" for record in line.records),
        f"{line.accuracy:.3f}",
        f"{sum(record.loss for record in line.records) / len(line.records):.3f}",
        f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]",
        f"{first.up / 1e6:.1f}",
        f"{first.down / 1e6:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _order(name: str) -> tuple[bool, str]:
    return name != "trained", name
