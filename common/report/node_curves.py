"""Figures of a node's page."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from common.report.curves import ABOVE, MOST
from common.report.figures import BLUE, GREEN, GREY, ORANGE, RED, axes_of, draw, from_zero, legend, line
from common.report.history import thin
from common.report.node_page import NodeReport


def draw_node(report: NodeReport) -> Mapping[str, str]:
    """Return inline SVG by name of figure, without the figures that have no data."""
    return draw({"node_loss": lambda: _loss(report), "node_shares": lambda: _shares(report)})


def _loss(report: NodeReport) -> Figure | None:
    points = [(row.round, row.loss) for row in report.rounds if row.loss is not None]
    if not points:
        return None
    numbers = [row.round for row in report.rounds]
    figure, axes = axes_of(numbers, "Held-out loss", report.loss_unit)
    line(axes, thin(points, MOST), color=BLUE, marker="o", linewidth=2, label="global update")
    ends = (numbers[0] - 0.5, numbers[-1] + 0.5)
    for value, color, label in ((report.loss.base, GREY, "base alone"), (report.loss.alone, ORANGE, "trained alone")):
        if value is not None:
            line(axes, [(end, value) for end in ends], color=color, linestyle="--", label=label)
    legend(axes, **ABOVE)
    return figure


def _shares(report: NodeReport) -> Figure | None:
    if not report.shares:
        return None
    numbers = [share.round for share in report.shares]
    figure, axes = axes_of(numbers, "Share of each round", "share of the sum")
    shown = thin(report.shares, MOST)
    line(axes, [(share.round, share.weight) for share in shown], color=GREEN, marker="o", label="share")
    clipped = [(share.round, share.weight) for share in shown if share.clip < 1]
    line(axes, clipped, color=RED, marker="x", markersize=8, linestyle="", label="clipped")
    from_zero(axes, MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    legend(axes, loc="upper left", ncols=2)
    return figure
