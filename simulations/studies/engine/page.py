"""The page of a study: claim, what was found, table and figure; and the same numbers as JSON."""

import json
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from common.atomic_files import write_file
from simulations.results.figure import STYLE
from simulations.studies.engine.study import Findings, Study

_VERDICTS = {True: "It held.", False: "It did not hold.", None: "These trials do not decide it."}


def write_page(folder: Path, name: str, study: Study, findings: Findings, command: str) -> Path:
    """Write NAME.md, NAME.svg and NAME.json, and return the page."""
    page = folder / f"{name}.md"
    write_file(page, "\n".join([*_lines(name, study, findings, command), ""]).encode())
    numbers = {"claim": study.claim, "held": findings.held, "text": findings.text, "command": command, **versions()}
    table = [dict(zip(findings.columns, row, strict=True)) for row in findings.rows]
    write_file(
        folder / f"{name}.json", json.dumps(numbers | {"table": table} | dict(findings.numbers), indent=1).encode()
    )
    _draw(findings, folder / f"{name}.svg")
    return page


def verdict(findings: Findings) -> str:
    """Return the sentence that says whether the claim held, and the paragraph behind it."""
    return f"{_VERDICTS[findings.held]} {findings.text}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def versions() -> dict[str, Any]:
    """Return what the numbers were made with."""
    return {
        "versions": {name: version(name) for name in ("fedlora", "torch", "transformers", "numpy")},
        "processor": platform.machine(),
    }


def _lines(name: str, study: Study, findings: Findings, command: str) -> Iterator[str]:
    made = ", ".join(f"{package} {number}" for package, number in versions()["versions"].items())
    yield from (f"# {study.title}", "", f"`{command}` ({made})", "", f"> {study.claim}", "", verdict(findings), "")
    yield from (f"![{study.title}]({name}.svg)", "", *markdown(findings.columns, findings.rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _draw(findings: Findings, file: Path) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        findings.draw(figure)
        figure.savefig(file, metadata={"Date": None, "Creator": None})
