"""The figure of a comparison: accuracy by number of exchanges, or by bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure

from simulations.results.statistics import Line

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedlora",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
"""Of the figures of this repository: text as text, and the same bytes each time."""


def draw(title: str, found: Sequence[Line], file: Path, axis: Literal["exchanges", "bytes"] = "exchanges") -> None:
    """Write the figure as SVG: a point for each way to run a method, and a line where there are several.

    Args:
        title: of the figure.
        found: the first is pooled training, which is drawn across.
        file: to write.
        axis: what the accuracy is drawn against.
    """
    place = _exchanges if axis == "exchanges" else _megabytes
    pooled, *others = found
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.set_prop_cycle(color=matplotlib.colormaps["tab20"](range(20)))
        axes.axhline(pooled.accuracy, color="black", linestyle="--", label="pooled training")
        for name in dict.fromkeys(line.records[0].method for line in others):
            own = sorted((line for line in others if line.records[0].method == name), key=place)
            axes.plot(list(map(place, own)), [line.accuracy for line in own], marker="o", label=name)
        axes.set(title=title, xlabel=_LABELS[axis], ylabel="test accuracy", xscale="log")
        ticks = sorted({place(line) for line in others}) if axis == "exchanges" else _TICKS
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.minorticks_off()
        axes.legend(fontsize=8, loc="best", frameon=False)
        figure.savefig(file, metadata={"Date": None, "Creator": None})


def _exchanges(line: Line) -> float:
    return line.records[0].exchanges


def _megabytes(line: Line) -> float:
    return sum(record.up + record.down for record in line.records) / len(line.records) / 1e6


_LABELS = {"exchanges": "exchanges, at equal client compute", "bytes": "MB to and from all clients"}
_TICKS = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
