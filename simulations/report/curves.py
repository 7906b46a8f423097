"""Figures with the round on the x axis; each function returns None if the run has nothing to show."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from simulations.report.formats import size
from simulations.report.records import Record, exp, held_out, histories

# Okabe and Ito's palette: distinguishable under every common colour blindness.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8F98"
EXACT = 1e-6
"""The largest aggregation error that counts as exact."""
_ZERO = 1e-17
"""Place of an aggregation error of 0 on the logarithmic axis: below the rounding of float64."""

_POOLED: dict[str, Any] = {"color": GREEN, "linestyle": "--", "linewidth": 1.5, "label": "pooled training"}

Points = Sequence[tuple[int, float]]


def loss(records: Sequence[Record], pooled: Sequence[Record] = ()) -> Figure | None:
    """Draw the loss on the test rows and on the clients' own held-out rows, one faint line per client."""
    tested, held = _points(records, "test_loss"), _held_out(records)
    if not tested and not held:
        return None
    figure, axes = _axes(records, "Loss", "loss (nats)")
    by_client = histories(records)
    faint = max(0.12, min(0.5, 8 / max(1, len(by_client))))
    for history in by_client.values():
        own = [(number, client["loss_after"]) for number, client in history if client["loss_after"] is not None]
        _line(axes, own, color=GREY, linewidth=0.8, alpha=faint)
    _line(axes, held, color=ORANGE, marker="s", label="clients' own held-out rows, mean")
    _line(axes, tested, color=BLUE, marker="o", linewidth=2, label="test rows")
    _line(axes, _points(pooled, "test_loss") or _held_out(pooled), **_POOLED)
    axes.legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 1), borderaxespad=0.1)
    return figure


def _held_out(records: Sequence[Record]) -> Points:
    return [(record["round"], mean) for record in records if (mean := held_out(record)) is not None]


def accuracy(records: Sequence[Record], chance: float | None, pooled: Sequence[Record] = ()) -> Figure | None:
    """Draw the share of test rows correct, with the level of chance if it is known."""
    points = _points(records, "test_accuracy")
    if not points:
        return None
    figure, axes = _axes(records, "Accuracy", "share of test rows correct")
    _line(axes, points, color=BLUE, marker="o", linewidth=2, label="test rows")
    _line(axes, _points(pooled, "test_accuracy"), **_POOLED)
    if chance is not None:
        axes.axhline(chance, color=RED, linestyle="--", label=f"chance, {chance:.1%}")
    _from_zero(axes, MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="upper left", ncols=2)
    return figure


def perplexity(records: Sequence[Record], pooled: Sequence[Record] = ()) -> Figure | None:
    """Draw exp(test loss) of a language model."""
    points = _points(records, "test_loss")
    if not points:
        return None
    figure, axes = _axes(records, "Perplexity", "exp(test loss) per token")
    _line(
        axes, [(number, exp(nats)) for number, nats in points], color=BLUE, marker="o", linewidth=2, label="test rows"
    )
    _line(axes, [(number, exp(nats)) for number, nats in _points(pooled, "test_loss")], **_POOLED)
    axes.legend(loc="upper right", ncols=2)
    return figure


def traffic(records: Sequence[Record]) -> Figure | None:
    """Draw bytes up and down, all clients together."""
    trained = [record for record in records if record["round"]]
    if not trained:
        return None
    figure, axes = _axes(records, "Traffic, all clients together", "MB (10⁶ bytes)")
    for key, way, color, marker in (("bytes_up", "up", BLUE, "o"), ("bytes_down", "down", ORANGE, "s")):
        points = [(record["round"], record[key] / 1e6) for record in trained]
        total = size(sum(record[key] for record in trained))
        _line(axes, points, color=color, marker=marker, label=f"{way}: {total} in total")
    _from_zero(axes, MaxNLocator(6))
    axes.legend(loc="upper left", ncols=2)
    return figure


def exactness(records: Sequence[Record]) -> Figure | None:
    """Draw the relative error of the aggregation, on a logarithmic axis that has a place for 0."""
    points = _points(records, "aggregation_error")
    if not points:
        return None
    figure, axes = _axes(records, "Aggregation error of each round", "‖(Sₜ − Sₜ₋₁) − Δ‖ / ‖Δ‖")
    axes.set_yscale("log")
    _line(axes, [(number, max(value, _ZERO)) for number, value in points], color=BLUE, marker="o")
    axes.axhline(EXACT, color=RED, linestyle="--", label="exact up to here, 1e-6")
    axes.set_ylim(_ZERO / 3, 1e3 * max(EXACT, *(value for _, value in points)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value <= _ZERO else f"{value:.0e}"))
    axes.legend(loc="upper right")
    return figure


def agreement(records: Sequence[Record]) -> Figure | None:
    """Draw how far the clients' updates point one way, above what it is where they cancel."""
    points = _points(records, "agreement")
    if not points:
        return None
    figure, axes = _axes(records, "Agreement of the clients", "‖Σ pᵢΔᵢ‖² / Σ pᵢ‖Δᵢ‖²")
    _line(axes, points, color=BLUE, marker="o", label="this run")
    counted = [
        (record["round"], sum(c["status"] == "ok" for c in record["clients"])) for record in records if record["round"]
    ]
    cancel = [(number, 1 / count) for number, count in counted if count]
    _line(axes, cancel, color=RED, linestyle="--", label="1 / K: the clients cancel")
    axes.set_ylim(0, 1.3)
    axes.legend(loc="upper right", ncols=2)
    return figure


def residual(records: Sequence[Record]) -> Figure | None:
    """Draw the share of the sum S that the broadcast G leaves out, and the share lost to the cap on S's rank."""
    if len(records) < 2:
        return None
    figure, axes = _axes(records, "Left out of the broadcast", "share of ‖S‖")
    _line(axes, _points(records, "residual"), color=BLUE, marker="o", label="kept on the server, ‖S − G‖ / ‖S‖")
    _line(axes, _points(records, "dropped"), color=RED, marker="s", label="dropped for good by the cap on rank")
    _from_zero(axes, MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="upper left")
    return figure


def rank(records: Sequence[Record]) -> Figure | None:
    """Draw the rank of the broadcast global update."""
    if len(records) < 2:
        return None
    figure, axes = _axes(records, "Rank of the global update", "rank of G")
    _line(axes, _points(records, "rank_global"), color=GREEN, marker="o")
    _from_zero(axes, MaxNLocator(6, integer=True))
    return figure


def _axes(records: Sequence[Record], title: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 3.0), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="round", ylabel=ylabel)
    axes.set_xlim(records[0]["round"] - 0.5, records[-1]["round"] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure, axes


def _points(records: Sequence[Record], key: str) -> list[tuple[int, float]]:
    return [(record["round"], record[key]) for record in records if record[key] is not None]


def _line(axes: Axes, points: Points, **style: Any) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def _from_zero(axes: Axes, ticks: MaxNLocator) -> None:
    """Let the y axis start at 0 and leave room for a legend."""
    axes.yaxis.set_major_locator(ticks)
    axes.set_ylim(0, 1.3 * max(axes.dataLim.y1, 1e-3))
