"""Figures as inline SVG in the colours of their page, light or dark; equal figures give equal text."""

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette: distinguishable under every common colour blindness.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#8a8f98"
_INK, _PAPER, _GRID = "#1d2430", "#ffffff", "#e1e4e8"
_VARIABLES = {
    **{BLUE: "--plot-blue", ORANGE: "--plot-orange", GREEN: "--plot-green", RED: "--plot-red"},
    **{PURPLE: "--plot-purple", GREY: "--plot-grey", _INK: "--ink", _PAPER: "--paper", _GRID: "--line"},
}
"""The colours of a page's style sheet that stand for these."""

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
    "grid.color": _GRID,
    "legend.facecolor": _PAPER,
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
    "lines.markersize": 4,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), GREY),
}
_MARKED = 60
"""Most points of a line that are marked one by one."""
_LARGEST = 1e30
"""Largest number that an axis shows: beyond it, the width of the axis is no number."""


def draw(figures: Mapping[str, Callable[[], Figure | None]]) -> dict[str, str]:
    """Return inline SVG by name of figure, without the figures that have no data."""
    with matplotlib.rc_context(_STYLE):
        drawn = {name: make() for name, make in figures.items()}
        return {name: _svg(name, figure) for name, figure in drawn.items() if figure is not None}


def _svg(name: str, figure: Figure) -> str:
    """Return the figure without prolog; its name prefixes its ids, since all figures of a page share one namespace."""
    file = StringIO()
    empty = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=empty, transparent=True)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", file.getvalue())
    return re.sub(r'(?<=\sstyle=")[^"]*', _recoloured, svg[svg.index("<svg") :])


def _recoloured(style: re.Match[str]) -> str:
    return re.sub(r"#[0-9a-f]{6}", lambda found: _variable(found[0]), style[0])


def _variable(color: str) -> str:
    return f"var({_VARIABLES[color]})" if color in _VARIABLES else color


def legend(axes: Axes, **place: Any) -> None:
    """Add a legend, if there is anything to name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**place)


def axes_of(rounds: Sequence[int], title: str, ylabel: str) -> tuple[Figure, Axes]:
    """Return a figure with the round on the x axis, from the first to the last of these."""
    figure = Figure(figsize=(5.4, 3.0), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="round", ylabel=ylabel)
    axes.set_xlim(rounds[0] - 0.5, rounds[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure, axes


def line(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    """Draw a line through the points that are numbers of a sensible size; of many points, none is marked."""
    shown = [(number, value) for number, value in points if abs(value) < _LARGEST]
    if shown:
        axes.plot(*zip(*shown, strict=True), **(style | ({"marker": None} if len(shown) > _MARKED else {})))


def from_zero(axes: Axes, ticks: MaxNLocator) -> None:
    """Let the y axis start at 0 and leave room for a legend."""
    axes.yaxis.set_major_locator(ticks)
    axes.set_ylim(0, 1.3 * max(axes.dataLim.y1, 1e-3))
