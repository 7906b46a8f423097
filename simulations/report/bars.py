"""Wide figures with one row per client or module."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from common.report.figures import BLUE, GREEN, GREY, RED
from common.report.history import NodeHistory

_TALLEST = 16.0
"""Maximum height in inches; more rows than fit move closer together, and labels are thinned out."""
_FLOOR = -4.0
"""log10 of the smallest singular value, relative to its module's largest, that has a distinct colour."""


def clients(nodes: Sequence[NodeHistory], unit: str = "nats") -> Figure | None:
    """Draw a row per client: its rank, its data, and its held-out loss in a unit, before training and at the end."""
    if not nodes:
        return None
    figure, panels = _rows([f"{node.name} · r {node.rank}" for node in nodes], (1, 1.3, 1.3, 3.4))
    for axes, key, title, color in (
        (panels[0], "rank", "Rank", GREEN),
        (panels[1], "rows", "Rows held", BLUE),
        (panels[2], "examples", "Rows trained on", BLUE),
    ):
        values = [getattr(node, key) for node in nodes]
        axes.barh(range(len(nodes)), values, height=0.7, color=color)
        axes.set_xlim(0, 1.05 * max(1, *values))
        axes.set_title(title)
        axes.set_xlabel("r" if key == "rank" else "rows")
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    _dumbbells(panels[3], nodes, unit)
    return figure


def _dumbbells(axes: Axes, nodes: Sequence[NodeHistory], unit: str) -> None:
    for place, node in enumerate(nodes):
        if node.start is not None and node.end is not None:
            color = RED if node.end > node.start else GREY
            axes.plot([node.start, node.end], [place, place], color=color, linewidth=1.5, zorder=2)
    for key, label, face, edge in (("start", "before training", "white", GREY), ("end", "at the end", BLUE, BLUE)):
        dots = [(getattr(node, key), place) for place, node in enumerate(nodes) if getattr(node, key) is not None]
        x, y = zip(*dots, strict=True) if dots else ((), ())
        axes.scatter(x, y, s=26, facecolor=face, edgecolor=edge, zorder=3, label=label)
    axes.set_title("Held-out loss")
    axes.set_xlabel(f"{unit}, on the client's own held-out rows; the line is orange where it rose")
    axes.legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 1), borderaxespad=0.1)


def singular_values(spectrum: Mapping[str, Sequence[float]]) -> Figure | None:
    """Draw a row per module: the norm of its update, and its singular values relative to the largest as a heat map."""
    names = sorted((name for name, sigma in spectrum.items() if len(sigma)), key=_natural)
    if not names:
        return None
    short = short_names(names)
    figure, (bars, cells) = _rows([short[name] for name in names], (1.3, 4))
    bars.barh(range(len(names)), [float(np.linalg.norm(spectrum[name])) for name in names], height=0.7, color=BLUE)
    bars.set_title("Norm of the update")
    bars.set_xlabel("‖ΔW‖, Frobenius")
    image = cells.imshow(
        _relative([spectrum[name] for name in names]), aspect="auto", interpolation="none", vmin=_FLOOR, vmax=0
    )
    cells.grid(visible=False)
    cells.set_title("Singular values, each module relative to its largest")
    cells.set_xlabel("index, from 0")
    cells.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=cells, label="log₁₀(σᵢ / σ₀)", pad=0.01, aspect=30)
    return figure


def _relative(spectra: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return log10(sigma_i / sigma_0), (modules, widest spectrum), at least the floor; NaN beyond a spectrum's end."""
    table = np.full((len(spectra), max(map(len, spectra))), np.nan)
    for row, sigma in zip(table, spectra, strict=True):
        row[: len(sigma)] = np.asarray(sigma) / (max(sigma) or 1.0)
    logarithms: NDArray[np.float64] = np.log10(np.maximum(table, 10**_FLOOR))
    return logarithms


def _rows(labels: Sequence[str], widths: Sequence[float]) -> tuple[Figure, Sequence[Axes]]:
    """Make a wide figure of panels that share one row for each label, the first label on top."""
    row = min(0.26 if len(labels) <= 40 else 0.16, _TALLEST / len(labels))
    figure = Figure(figsize=(11, 1.1 + row * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(widths), sharey=True, width_ratios=widths)
    every = math.ceil(0.15 / row)
    panels[0].set_yticks(range(0, len(labels), every), labels[::every], fontsize=9 if row > 0.2 else 7.5)
    for inner in panels[1:]:
        inner.tick_params(axis="y", left=False)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    return figure, list(panels)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Cut each module name to the parts that distinguish it from the others; its last part always stays."""
    parts = {name: name.split(".") for name in names}
    counts = Counter(part for pieces in parts.values() for part in set(pieces[:-1]))
    for part, count in counts.most_common():
        cut = {name: [p for p in pieces[:-1] if p != part] + pieces[-1:] for name, pieces in parts.items()}
        if 2 * count >= len(names) and len({tuple(pieces) for pieces in cut.values()}) == len(parts):
            parts = cut
    return {name: ".".join(pieces) for name, pieces in parts.items()}


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts layer 2 before layer 10."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]
