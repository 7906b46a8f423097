"""Figures of a run with the round on the x axis; each function returns None if the run has nothing to show.

Of long runs, every so many rounds are drawn.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from common.report.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, axes_of, from_zero, legend, line
from common.report.formats import size
from common.report.history import Points, thin
from common.report.records import EXACT, Record, exp, measure_of

MOST = 400
"""Most rounds that a figure draws."""
_SINGLE = 100
"""Most points of a single client's line."""
_ZERO = 1e-17
"""Place of an aggregation error of 0 on the logarithmic axis: below the rounding of float64."""
ABOVE: dict[str, Any] = {"loc": "lower right", "ncols": 3, "bbox_to_anchor": (1, 1), "borderaxespad": 0.1}
"""Place of a legend beside the title."""
_POOLED: dict[str, Any] = {"color": GREEN, "linestyle": "--", "linewidth": 1.5, "label": "pooled training"}
_PARTS = {
    **{"whole": (ORANGE, "s"), "change": (GREEN, "^"), "factors": (RED, "v"), "head": (GREY, "D")},
    **{"plan": (GREY, "P"), "evaluation": (PURPLE, "x"), "down": (ORANGE, "s"), "up": (BLUE, "o")},
}
"""Colour and marker of each part of the traffic."""


def loss(rounds: Sequence[Record], single: Mapping[str, Points], pooled: Sequence[Record] = ()) -> Figure | None:
    """Draw the loss on the test rows and on the clients' own held-out rows, one faint line per client."""
    tested, held = _points(rounds, "test_loss"), _points(rounds, "held_out")
    if not tested and not held:
        return None
    figure, axes = axes_of(_numbers(rounds), "Loss", f"loss ({measure_of(rounds).loss})")
    faint = max(0.12, min(0.5, 8 / max(1, len(single))))
    for own in single.values():
        line(axes, thin(own, _SINGLE), color=GREY, linewidth=0.8, alpha=faint)
    line(axes, held, color=ORANGE, marker="s", label="clients' own held-out rows, mean")
    line(axes, tested, color=BLUE, marker="o", linewidth=2, label="test rows")
    line(axes, _points(pooled, "test_loss") or _points(pooled, "held_out"), **_POOLED)
    legend(axes, **ABOVE)
    return figure


def score(rounds: Sequence[Record], chance: float | None, pooled: Sequence[Record] = ()) -> Figure | None:
    """Draw the task's score on the test rows, with the level of chance if it is known."""
    measure = measure_of(rounds)
    points = _points(rounds, f"test_{measure.key}")
    if not points:
        return None
    figure, axes = axes_of(_numbers(rounds), measure.heading, measure.meaning)
    line(axes, points, color=BLUE, marker="o", linewidth=2, label="test rows")
    line(axes, _points(pooled, f"test_{measure.key}"), **_POOLED)
    if chance is not None:
        axes.axhline(chance, color=RED, linestyle="--", label=f"chance, {chance:.1%}")
    if measure.share:
        from_zero(axes, MaxNLocator(6))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    legend(axes, loc="upper left", ncols=2)
    return figure


def perplexity(rounds: Sequence[Record], pooled: Sequence[Record] = ()) -> Figure | None:
    """Draw exp(test loss) of a language model."""
    points = [(number, exp(nats)) for number, nats in _points(rounds, "test_loss")]
    if not points:
        return None
    figure, axes = axes_of(_numbers(rounds), "Perplexity", "exp(test loss) per token")
    line(axes, points, color=BLUE, marker="o", linewidth=2, label="test rows")
    line(axes, [(number, exp(nats)) for number, nats in _points(pooled, "test_loss")], **_POOLED)
    legend(axes, loc="upper right", ncols=2)
    return figure


def traffic(rounds: Sequence[Record]) -> Figure | None:
    """Draw bytes by part, all clients together."""
    if len(rounds) < 2:
        return None
    figure, axes = axes_of(_numbers(rounds), "Traffic, all clients together", "MB (10⁶ bytes)")
    for part, (color, marker) in _PARTS.items():
        points = [(each["round"], each["parts"].get(part, 0) / 1e6) for each in thin(rounds, MOST)]
        if total := sum(each["parts"].get(part, 0) for each in rounds):
            line(axes, points, color=color, marker=marker, label=f"{part}: {size(total)}")
    from_zero(axes, MaxNLocator(6))
    legend(axes, loc="upper left", ncols=3)
    return figure


def seconds(rounds: Sequence[Record]) -> Figure | None:
    """Draw the time that each round took."""
    if len(rounds) < 2:
        return None
    figure, axes = axes_of(_numbers(rounds), "Time of each round", "seconds")
    line(axes, _points(rounds, "seconds"), color=BLUE, marker="o")
    from_zero(axes, MaxNLocator(6))
    return figure


def exactness(rounds: Sequence[Record]) -> Figure | None:
    """Draw the relative error of the aggregation, on a logarithmic axis that has a place for 0."""
    points = _points(rounds, "aggregation_error")
    if not points:
        return None
    figure, axes = axes_of(_numbers(rounds), "Aggregation error of each round", "‖(Sₜ − Sₜ₋₁) − Δ‖ / ‖Δ‖")
    axes.set_yscale("log")
    line(axes, [(number, max(value, _ZERO)) for number, value in points], color=BLUE, marker="o")
    axes.axhline(EXACT, color=RED, linestyle="--", label="exact up to here, 1e-6")
    axes.set_ylim(_ZERO / 3, 1e3 * max(EXACT, *(min(value, 1e30) for _, value in points)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value <= _ZERO else f"{value:.0e}"))
    legend(axes, loc="upper right")
    return figure


def agreement(rounds: Sequence[Record]) -> Figure | None:
    """Draw how far the clients' updates point one way, above what it is where they cancel."""
    points = _points(rounds, "agreement")
    if not points:
        return None
    figure, axes = axes_of(_numbers(rounds), "Agreement of the clients", "‖Σ pᵢΔᵢ‖² / Σ pᵢ‖Δᵢ‖²")
    line(axes, points, color=BLUE, marker="o", label="this run")
    counted = [(each["round"], each["counted"]) for each in thin(rounds, MOST) if each["round"]]
    cancel = [(number, 1 / count) for number, count in counted if count]
    line(axes, cancel, color=RED, linestyle="--", label="1 / K: the clients cancel")
    axes.set_ylim(0, 1.3)
    legend(axes, loc="upper right", ncols=2)
    return figure


def residual(rounds: Sequence[Record]) -> Figure | None:
    """Draw the share of the sum S that the broadcast G leaves out, and the share lost to the cap on S's rank."""
    if len(rounds) < 2:
        return None
    figure, axes = axes_of(_numbers(rounds), "Left out of the broadcast", "share of ‖S‖")
    line(axes, _points(rounds, "residual"), color=BLUE, marker="o", label="kept on the server, ‖S − G‖ / ‖S‖")
    line(axes, _points(rounds, "dropped"), color=RED, marker="s", label="dropped for good by the cap on rank")
    from_zero(axes, MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    legend(axes, loc="upper left")
    return figure


def rank(rounds: Sequence[Record]) -> Figure | None:
    """Draw the rank of the broadcast global update."""
    if len(rounds) < 2:
        return None
    figure, axes = axes_of(_numbers(rounds), "Rank of the global update", "rank of G")
    line(axes, _points(rounds, "rank_global"), color=GREEN, marker="o")
    from_zero(axes, MaxNLocator(6, integer=True))
    return figure


def _numbers(rounds: Sequence[Record]) -> list[int]:
    return [each["round"] for each in rounds]


def _points(rounds: Sequence[Record], key: str) -> list[tuple[int, float]]:
    return [(each["round"], each[key]) for each in thin(rounds, MOST) if each.get(key) is not None]
