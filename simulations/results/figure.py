"""The figure of a comparison: accuracy by number of exchanges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from simulations.results.statistics import Line

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedlora",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(title: str, found: Sequence[Line], file: Path) -> None:
    """Write the figure as SVG: a point for each way to run a method, and a line where there are several.

    Args:
        title: of the figure.
        found: the first is pooled training, which is drawn across.
        file: to write.
    """
    pooled, *others = found
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.set_prop_cycle(color=matplotlib.colormaps["tab20"](range(20)))
        axes.axhline(pooled.accuracy, color="black", linestyle="--", label="pooled training")
        for name in dict.fromkeys(line.records[0].method for line in others):
            own = sorted((line for line in others if line.records[0].method == name), key=_exchanges)
            axes.plot(list(map(_exchanges, own)), [line.accuracy for line in own], marker="o", label=name)
        axes.set(title=title, xlabel="exchanges, at equal client compute", ylabel="test accuracy", xscale="log")
        ticks = sorted({_exchanges(line) for line in others})
        axes.set_xticks(ticks, list(map(str, ticks)), minor=False)
        axes.minorticks_off()
        axes.legend(fontsize=8, loc="best", frameon=False)
        figure.savefig(file, metadata={"Date": None, "Creator": None})


def _exchanges(line: Line) -> int:
    return line.records[0].exchanges
