"""The kinds of figures that studies draw."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common.adapters.adapter import Array
from simulations.studies.engine.estimate import Estimate


def bars(figure: Figure, found: Mapping[str, Estimate], label: str) -> None:
    """Draw a bar for each estimate, with its interval."""
    axes = figure.subplots()
    means = [each.mean for each in found.values()]
    axes.barh(list(found), means, xerr=np.nan_to_num(_ends(list(found.values()))), color="#4c78a8", capsize=3)
    axes.invert_yaxis()
    axes.set(xlabel=label, xlim=_around(list(found.values())))


def lines(
    figure: Figure, found: Mapping[str, Mapping[float, Estimate]], labels: tuple[str, str], log: bool = True
) -> None:
    """Draw a line for each entry: estimates by a number.

    Args:
        figure: to draw on.
        found: by name of the line, then by the number.
        labels: of the two axes.
        log: the numbers are on a logarithmic axis.
    """
    axes = figure.subplots()
    for name, points in found.items():
        values = list(points.values())
        means, ends = [each.mean for each in values], np.nan_to_num(_ends(values))
        axes.errorbar(list(points), means, yerr=ends, marker="o", capsize=3, label=name)
    axes.set(xlabel=labels[0], ylabel=labels[1], **({"xscale": "log"} if log else {}))
    ticks = sorted({number for points in found.values() for number in points})
    if len(ticks) < 10:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)


def heat_maps(figure: Figure, found: Mapping[str, Array], labels: tuple[str, str]) -> None:
    """Draw maps of numbers from 0 to 1 beside each other, with one scale."""
    rows = -(-len(found) // 3)
    figure.set_size_inches(10, 3.1 * rows)
    panels = iter(figure.subplots(rows, min(3, len(found)), squeeze=False).flat)
    for (name, values), axes in zip(found.items(), panels, strict=False):
        image = axes.imshow(values, vmin=0, vmax=1, aspect="auto", origin="lower", extent=_extent(values))
        axes.set_title(name, fontsize=9)
        axes.set(ylabel=labels[0], xlabel=labels[1])
    for axes in panels:  # Those that are left over in the last row.
        axes.set_visible(False)
    figure.colorbar(image, ax=figure.axes, shrink=0.8)


def _extent(values: Array) -> Any:
    return 0.5, values.shape[1] + 0.5, 0.5, values.shape[0] + 0.5


def _ends(values: Sequence[Estimate]) -> Array:
    return np.array([[each.mean - each.low for each in values], [each.high - each.mean for each in values]])


def _around(values: Sequence[Estimate]) -> tuple[float, float]:
    """Return limits that show differences: bars of accuracies that are near each other need not begin at 0."""
    lows, highs = (np.array([getattr(each, end) for each in values]) for end in ("low", "high"))
    means = np.array([each.mean for each in values])
    low, high = np.fmin(lows, means).min(), np.fmax(highs, means).max()
    margin = 0.2 * (high - low) or 0.1 * abs(high) or 1.0
    return max(0.0, low - margin) if low >= 0 else low - margin, high + margin
