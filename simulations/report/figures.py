"""Figures of a run as inline SVG; equal records give equal text."""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from simulations.report import bars, curves
from simulations.report.curves import GREY
from simulations.report.records import NodeHistory, Record

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedlora",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E8EB",
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
    "lines.markersize": 4,
}


def draw(
    records: Sequence[Record],
    pooled: Sequence[Record],
    nodes: Sequence[NodeHistory],
    spectrum: Mapping[str, Sequence[float]],
    chance: float | None,
    perplexity: bool,
) -> dict[str, str]:
    """Return inline SVG by name of figure, without the figures that have no data.

    Args:
        records: of the run.
        pooled: of its pooled training, if there is any.
        nodes: its clients.
        spectrum: singular values of the global update, falling, by module.
        chance: accuracy of guessing.
        perplexity: show exp(loss), which is meaningful for a language model only.
    """
    with matplotlib.rc_context(_STYLE):
        figures = {
            "loss": curves.loss(records, pooled),
            "accuracy": curves.accuracy(records, chance, pooled),
            "perplexity": curves.perplexity(records, pooled) if perplexity else None,
            "clients": bars.clients(nodes),
            "traffic": curves.traffic(records),
            "aggregation_error": curves.exactness(records),
            "agreement": curves.agreement(records),
            "residual": curves.residual(records),
            "rank": curves.rank(records),
            "spectrum": bars.singular_values(spectrum),
        }
        return {name: _svg(name, figure) for name, figure in figures.items() if figure is not None}


def _svg(name: str, figure: Figure) -> str:
    """Return the figure without prolog; its name prefixes its ids, since all figures of a page share one namespace."""
    file = StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", file.getvalue())
    return svg[svg.index("<svg") :]
