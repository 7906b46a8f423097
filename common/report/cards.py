"""Headline figures of a run, one card each."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.report.formats import decimal, duration, percent, size, small
from common.report.history import History, NodeHistory
from common.report.records import EXACT, Record, exp, measure_of


@dataclass(frozen=True)
class Card:
    """One headline figure, marked as good or bad; with `good` None, not marked."""

    label: str
    value: str
    note: str
    good: bool | None = None


def cards(
    history: History, chance: float | None = None, full_bytes: int | None = None, perplexity: bool = False
) -> list[Card]:
    """Return cards of scores, rounds, clients, traffic, exactness, ranks, head and rows left out, as the run has them.

    Args:
        chance: accuracy of guessing.
        full_bytes: size of the base model's weights, to compare traffic with.
        perplexity: show exp(loss), which is meaningful for a language model only.
    """
    records, nodes = history.rounds, history.nodes
    found = (
        _score(records, chance),
        _perplexity(records) if perplexity else None,
        _loss(records),
        _rounds(records),
        _clients(nodes),
        _traffic(nodes, full_bytes),
        _aggregation_error(records),
        _ranks(records),
        _head(records),
        _skipped(nodes),
    )
    return [card for card in found if card is not None]


def _ends(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Return the first and the last known value."""
    known = [value for value in values if value is not None]
    return (known[0], known[-1]) if known else None


def _rises(low: float, high: float) -> bool | None:
    return None if low == high else low < high


def _score(records: Sequence[Record], chance: float | None) -> Card | None:
    measure = measure_of(records)
    ends = _ends([record.get(f"test_{measure.key}") for record in records])
    if ends is None:
        return None
    note = "of the test rows" if chance is None else f"of the test rows; chance is {percent(chance)}"
    return Card(measure.heading, " → ".join(map(measure.shown, ends)), note, good=_rises(*ends))


def _perplexity(records: Sequence[Record]) -> Card | None:
    ends = _ends([record["test_loss"] for record in records])
    if ends is None:
        return None
    return Card("Perplexity", f"{exp(ends[0]):.2f} → {exp(ends[1]):.2f}", "test rows", good=_rises(ends[1], ends[0]))


def _loss(records: Sequence[Record]) -> Card | None:
    tested = _ends([record["test_loss"] for record in records])
    ends = tested or _ends([record["held_out"] for record in records])
    if ends is None:
        return None
    rows = "test rows" if tested else "clients' own held-out rows"
    note = f"{rows}, {measure_of(records).loss}"
    return Card("Loss", f"{decimal(ends[0])} → {decimal(ends[1])}", note, good=_rises(ends[1], ends[0]))


def _rounds(records: Sequence[Record]) -> Card:
    return Card("Rounds", str(records[-1]["round"]), f"in {duration(sum(record['seconds'] for record in records))}")


def _clients(nodes: Sequence[NodeHistory]) -> Card:
    ranks = sorted({node.rank for node in nodes})
    if len(ranks) > 1:
        return Card("Clients", str(len(nodes)), f"ranks {ranks[0]} to {ranks[-1]}")
    return Card("Clients", str(len(nodes)), f"rank {ranks[0]}" if ranks else "none took part")


def _skipped(nodes: Sequence[NodeHistory]) -> Card | None:
    counts = [node.skipped for node in nodes if node.skipped]
    note = f"at {len(counts)} of {len(nodes)} clients, whose logs tell why"
    return skipped_rows(sum(counts), note) if counts else None


def skipped_rows(count: int, note: str) -> Card:
    """Return the card of rows that were left out, as they could not be used."""
    return Card("Unusable rows left out", f"{count:,}", note, good=False)


def _traffic(nodes: Sequence[NodeHistory], full_bytes: int | None) -> Card | None:
    turns = sum(node.rounds for node in nodes)
    if not turns:
        return None
    up, down = sum(node.bytes_up for node in nodes) / turns, sum(node.bytes_down for node in nodes) / turns
    note = f"a client a round: {size(up)} up, {size(down)} down"
    if full_bytes is not None and up + down:
        note += f"; the full model would be {2 * full_bytes / (up + down):,.0f} times that"
    return Card("Traffic", size(up + down), note)


def _aggregation_error(records: Sequence[Record]) -> Card | None:
    errors = [error for record in records if (error := record["aggregation_error"]) is not None]
    if not errors:
        return None
    exact = max(errors) <= EXACT
    note = "exact: at most 1e-6" if exact else "not exact"
    return Card("Worst aggregation error", small(max(errors)), note, good=exact)


def _ranks(records: Sequence[Record]) -> Card | None:
    """Tell of the ranks that a run with a budget has agreed on."""
    plan = next((plan for record in records if (plan := record.get("plan"))), None)
    if plan is None:
        return None
    own = sorted(filter(None, plan["ranks"].values()))
    value = f"{own[0]} to {own[-1]}" if own[0] < own[-1] else str(own[0])
    note = f"on {len(own)} of {len(plan['ranks'])} modules; {plan['parameters']:,} parameters of {plan['budget']:,}"
    return Card("Ranks under the budget", value, note)


def _head(records: Sequence[Record]) -> Card | None:
    """Tell of the last head in closed form that is kept; of the last that was made, if none is."""
    made = [head for record in records if (head := record.get("head"))]
    if not made:
        return None
    kept = [head for head in made if head["kept"]]
    if "loss" not in (head := (kept or made)[-1]):
        few = head["reason"] == "quorum"
        why = "too few clients sent class sums" if few else "no finite one comes of the class sums"
        return Card("Head", "trained", why, good=False)
    losses = f"held-out loss {decimal(head['loss'])}, of the trained one {decimal(head['loss_trained'])}"
    return Card("Head", f"{head['kind']}, λ {head['lambda']:g}, T {head['temperature']:g}", losses, good=bool(kept))
