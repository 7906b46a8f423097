"""One self-contained HTML page about a run: figures, tables and settings; it loads nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from common.atomic_files import write_file
from common.plain_files import SETTINGS, read_plain
from common.settings.reader import read_toml
from common.settings.tasks import TASKS
from simulations.report import formats
from simulations.report.cards import cards
from simulations.report.figures import draw
from simulations.report.records import list_nodes, list_troubles, read_pooled, read_records


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
    records, pooled, config = read_records(run), read_pooled(run), read_toml(run / "config.toml", links=False)
    nodes, language = list_nodes(records), _has_perplexity(config)
    drawn = draw(records, pooled, nodes, beside.spectrum, beside.chance, perplexity=language)
    return _template().render(
        name=run.resolve().name,
        facts=beside.facts,
        cards=cards(records, nodes, beside.chance, beside.full_bytes, perplexity=language),
        figures={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704 - matplotlib escapes its text
        troubles=list_troubles(records),
        nodes=nodes,
        records=records,
        pooled=bool(pooled),
        samples=beside.samples,
        settings=read_plain(run / "config.toml", SETTINGS).decode(),
    )


def _has_perplexity(config: Mapping[str, Any]) -> bool:
    task = TASKS.get(config.get("data", {}).get("task", ""))
    return task is not None and task.perplexity


def _template() -> Template:
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for show in (formats.decimal, formats.percent, formats.small, formats.size, formats.duration, formats.spans):
        environment.filters[show.__name__] = show
    return environment.get_template("page.html.j2")
