"""A node's own page: what the run did for it, and what left its machine. Plain values in, one HTML file out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.atomic_files import write_file
from common.report.cards import Card, skipped_rows
from common.report.formats import decimal, percent, size
from common.report.records import ACCURACY, Measure
from common.report.templates import figures_as_markup, template


@dataclass(frozen=True)
class Learned:
    """What the node's held-out rows say after one round.

    Args:
        round: its number; 0 is before training.
        loss: of the global update on the node's held-out rows, None where it was not measured.
        rows: rows that the node trained on in the round.
    """

    round: int
    loss: float | None
    rows: int


@dataclass(frozen=True)
class Share:
    """What the node's update weighed in one round.

    Args:
        round: its number.
        weight: share of the sum, from 0 to 1.
        clip: factor by which the norm bound scaled the update; 1 if it did not.
    """

    round: int
    weight: float
    clip: float = 1.0


@dataclass(frozen=True)
class Compared:
    """One measure on the node's held-out rows, of three models; None where it was not measured.

    Args:
        base: of the base alone.
        together: of the base with the last global update.
        alone: of the base with an adapter trained on the node's own rows alone.
    """

    base: float | None = None
    together: float | None = None
    alone: float | None = None


@dataclass(frozen=True)
class NodeReport:
    """What a node's page shows.

    Args:
        node: name of the node; `run` and `project`, where it took part; `base`, name of the base model.
        rounds: by round, rising.
        loss: on held-out rows, in `loss_unit`.
        score: on held-out rows, of the kind `measure`; all None where the task has none.
        shares: of the rounds in which the node's update counted, rising.
        bytes_up: that the node sent in the whole run; `bytes_down`: that it received.
        sent: each kind of value that left the machine, and its meaning.
        adapter: SHA-256 of the last global update.
        receipts: number of signed receipts that the node keeps of the run.
        warnings: what the owner should know, one sentence each.
        measure: the score that the task has.
        loss_unit: what a loss is in, as "nats a token" or "mean squared error".
        alone: one sentence on how the adapter alone was trained; empty if none was.
        skipped: rows that the node left out, as they could not be used.
    """

    node: str
    run: str
    project: str
    base: str
    rounds: Sequence[Learned] = ()
    loss: Compared = Compared()
    score: Compared = Compared()
    shares: Sequence[Share] = ()
    bytes_up: int = 0
    bytes_down: int = 0
    sent: Sequence[tuple[str, str]] = ()
    adapter: str = ""
    receipts: int = 0
    warnings: Sequence[str] = ()
    measure: Measure = ACCURACY
    loss_unit: str = "nats a token"
    alone: str = ""
    skipped: int = 0


def write_node_page(folder: Path, report: NodeReport) -> Path:
    """Write `FOLDER/report.html` in one step, for its owner alone, and return its path; equal reports give equal bytes.

    Raises:
        OSError: it was not written.
    """
    path = folder / "report.html"
    write_file(path, node_page(report).encode(), mode=0o600)
    return path


def node_page(report: NodeReport) -> str:
    """Return the page as one self-contained HTML text; whatever the report holds is escaped."""
    return template(Path(__file__).parent, "node.html.j2").render(
        report=report,
        facts=_facts(report),
        cards=_cards(report),
        measures=_measures(report),
        shares={share.round: share for share in report.shares},
        figures=figures_as_markup(_figures(report)),
    )


def _facts(report: NodeReport) -> Mapping[str, str]:
    facts = {"Project": report.project, "Run": report.run, "Base model": report.base}
    return facts | ({"SHA-256 of the global update": report.adapter} if report.adapter else {})


def _cards(report: NodeReport) -> list[Card]:
    measure = report.measure
    found = [
        _gain("Loss", report.loss, decimal, lower=True),
        _gain(measure.heading, report.score, measure.shown, lower=False),
    ]
    weights = [share.weight for share in report.shares]
    known = sum(row.round > 0 for row in report.rounds)
    counted = f"of {known} known; signed receipts: {report.receipts}"
    return [
        *(card for card in found if card is not None),
        Card("Rounds that counted", str(len(weights)), counted),
        *([Card("Share of a round", percent(sum(weights) / len(weights)), "mean")] if weights else []),
        Card("Sent", size(report.bytes_up), f"{size(report.bytes_down)} received"),
        *([skipped_rows(report.skipped, "the node's log lists them by reason")] if report.skipped else []),
    ]


def _gain(label: str, measure: Compared, show: Callable[[float | None], str], lower: bool) -> Card | None:
    """Return the card of a measure that was taken of the base and of the last global update."""
    if measure.base is None or measure.together is None:
        return None
    better = measure.together < measure.base if lower else measure.together > measure.base
    good = None if measure.together == measure.base else better
    value = f"{show(measure.base)} → {show(measure.together)}"
    return Card(label, value, "own held-out rows, before the run and with its update", good)


def _measures(report: NodeReport) -> list[tuple[str, list[str]]]:
    """Return a row for each measure: its name, and its value with base, update and training alone."""
    measure = report.measure
    rows = (
        (f"Loss ({report.loss_unit})", report.loss, decimal),
        (measure.heading, report.score, measure.shown),
    )
    values = [(name, [measure.base, measure.together, measure.alone], show) for name, measure, show in rows]
    return [(name, [show(value) for value in found]) for name, found, show in values if found != [None] * 3]


def _figures(report: NodeReport) -> Mapping[str, str]:
    from common.report import node_curves  # with matplotlib, which takes a second

    return node_curves.draw_node(report)
