"""One self-contained HTML page about a simulation: figures, tables and settings; it loads nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.atomic_files import write_file
from common.plain_files import SETTINGS, read_plain
from common.report import curves
from common.report.cards import cards
from common.report.figures import draw
from common.report.history import History, add_up
from common.report.records import Record, measure_of, read_records
from common.report.templates import figures_as_markup, template
from common.settings.reader import read_toml
from common.settings.tasks import TASKS
from simulations.report import bars

POOLED = "pooled"
"""Folder of pooled training in a run's: a run of its own, of one client that holds all rows."""


@dataclass(frozen=True)
class Supplement:
    """What the page shows beside the files of the run.

    Args:
        spectrum: singular values of the final global update, falling, by module.
        facts: label -> text, shown at the top: base model, corpus, hashes.
        samples: a table of examples; all rows have the same keys, which are its headings.
        chance: accuracy of guessing.
        full_bytes: size of the base model's weights, to compare traffic with.
    """

    spectrum: Mapping[str, Sequence[float]]
    facts: Mapping[str, str]
    samples: Sequence[Mapping[str, str]] = ()
    chance: float | None = None
    full_bytes: int | None = None


def write_report(run: Path, beside: Supplement) -> Path:
    """Write `RUN/report.html` from `config.toml`, `metrics.jsonl` and those of `pooled/`; return its path.

    Equal input gives equal bytes.

    Raises:
        JournalError: `metrics.jsonl` cannot be used.
        ConfigError: `config.toml` cannot be read.
    """
    path = run / "report.html"
    write_file(path, _render(run, beside).encode())
    return path


def _render(run: Path, beside: Supplement) -> str:
    history, pooled = add_up(read_records(run)), _pooled_rounds(run)
    language = _has_perplexity(read_toml(run / "config.toml", links=False))
    return template(Path(__file__).parent, "page.html.j2").render(
        name=run.resolve().name,
        facts=beside.facts,
        cards=cards(history, beside.chance, beside.full_bytes, perplexity=language),
        figures=figures_as_markup(_draw(history, pooled, beside, language)),
        history=history,
        measure=measure_of(history.rounds),
        pooled=bool(pooled),
        samples=beside.samples,
        settings=read_plain(run / "config.toml", SETTINGS).decode(),
    )


def _draw(history: History, pooled: Sequence[Record], beside: Supplement, language: bool) -> dict[str, str]:
    rounds = history.rounds
    return draw(
        {
            "loss": lambda: curves.loss(rounds, history.losses, pooled),
            "score": lambda: curves.score(rounds, beside.chance, pooled),
            "perplexity": lambda: curves.perplexity(rounds, pooled) if language else None,
            "clients": lambda: bars.clients(history.nodes, measure_of(rounds).loss),
            "traffic": lambda: curves.traffic(rounds),
            "seconds": lambda: curves.seconds(rounds),
            "aggregation_error": lambda: curves.exactness(rounds),
            "agreement": lambda: curves.agreement(rounds),
            "residual": lambda: curves.residual(rounds),
            "rank": lambda: curves.rank(rounds),
            "spectrum": lambda: bars.singular_values(beside.spectrum),
        }
    )


def _pooled_rounds(run: Path) -> Sequence[Record]:
    """Return the rounds of the run's pooled training so far; none if there is none."""
    metrics = run / POOLED / "metrics.jsonl"
    begun = metrics.is_file() and metrics.stat().st_size
    return add_up(read_records(run / POOLED)).rounds if begun else ()


def _has_perplexity(config: Mapping[str, Any]) -> bool:
    task = TASKS.get(config.get("data", {}).get("task", ""))
    return task is not None and task.perplexity
