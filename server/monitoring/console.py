"""A running server's log: one line for each event that its operator needs to know of."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from common.log_format import event
from server.rounds.observer import RunObserver

ROUNDING = 1e-6
"""Largest share of an update that rounding to float32 leaves out."""
MINUTE = 60.0
"""Seconds for which the lines about a node are counted."""
_MEANINGS = {
    "refused: base": "its base model, tokenizer, targets, labels or max_length are not those of the run",
    "refused: shape": "its modules are not those of the run",
    "refused: name": "another node has its name",
    "refused: rank": "the algorithm needs one rank of all nodes: [base] max_rank, or else the roster's largest",
    "refused: rows": "its rows cannot be used; its own log says why",
    "refused: model": "its base model cannot be loaded; its own log says why",
    "refused: settings": "its settings are wrong; its own log says why",
    "refused: policy": "its owner lets no gradient leave, or no class sums, and this run asks for them; its own log "
    "has the remedy",
    "refused: failed": "an error at the node; its own log says which",
}
"""Meaning of a node's state for the operator."""


class Sparing:
    """Lets few lines about each node through: one that comes and goes all the time must not fill the log.

    Args:
        most: lines about a node in a minute.
        clock: returns seconds that never go back.
    """

    def __init__(self, most: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._began, self._lines = clock(), Counter[str]()

    def lets(self, name: str) -> bool:
        """Return whether another line about this node may be written in this minute, and count it."""
        if self._clock() - self._began >= MINUTE:
            self._began, self._lines = self._clock(), Counter()
        self._lines[name] += 1
        return self._lines[name] <= self._most


class ConsoleLog(RunObserver):
    """Writes one line per event to a logger.

    Args:
        log: the logger.
        members: returns the names of all nodes that may take part.
    """

    def __init__(self, log: logging.Logger, members: Callable[[], Iterable[str]] = tuple) -> None:
        self._log, self._members = log, members
        self._states: Mapping[str, str] = {}
        self._sparing = Sparing()

    def on_waiting(self, states: Mapping[str, str], needed: int) -> None:
        """Log what is waited for."""
        self.on_nodes(states)
        ready = sum(state.startswith("ready") for state in states.values())
        others = [f"{name} ({state})" for name, state in states.items() if not state.startswith("ready")]
        others += [f"{name} (not connected)" for name in sorted({*self._members()} - states.keys())]
        what = "%s of %s nodes are ready; waiting for %s"
        extra = event("waiting", ready=ready, needed=needed)
        if self._sparing.lets("waiting"):
            self._log.info(what, ready, needed, ", ".join(others) or "the others", extra=extra)

    def on_nodes(self, states: Mapping[str, str]) -> None:
        """Log each node whose state has changed."""
        for name, state in states.items():
            known = state == self._states.get(name) or state.startswith(("loading", "silent"))
            if not known and self._sparing.lets(name):
                why = f" ({_MEANINGS[state]})" if state in _MEANINGS else ""  # one that says more needs no meaning
                level = logging.INFO if state.startswith("ready") else logging.WARNING
                self._log.log(
                    level, "node %s is %s%s", name, state, why, extra=event("node-state", node=name, state=state)
                )
        for name in filter(self._sparing.lets, self._states.keys() - states.keys()):
            since = f"{datetime.now(UTC):%H:%M:%S} UTC"
            self._log.warning("node %s is silent since %s", name, since, extra=event("node-gone", node=name))
        self._states = dict(states)

    def on_run_started(self, rounds: int, done: int) -> None:
        """Log that enough nodes are ready."""
        self._log.info("%s rounds, %s of them done", rounds, done, extra=event("run-started", rounds=rounds, done=done))

    def on_round_started(self, number: int, clients: int) -> None:
        """Log that nodes were asked to train."""
        extra = event("round-started", round=number, nodes=clients)
        self._log.info("round %s: %s nodes train", number, clients, extra=extra)

    def on_client_done(self, name: str, status: str) -> None:
        """Log that a node's reply arrived, or will not come."""
        self._log.info("%s: %s", name, status, extra=event("reply", node=name, status=status))

    def on_silent(self, name: str, number: int, again: int) -> None:
        """Log that a node is silent, and when it is asked again."""
        self._log.warning(
            "node %s is silent: in round %s it neither answered nor reported a step; it is asked again in round %s",
            *(name, number, again),
            extra=event("node-silent", node=name, round=number, again=again),
        )

    def on_round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """Log that too few replies are valid."""
        words = ", ".join(f"{name}: {reason}" for name, reason in reasons.items())
        extra = event("round-abandoned", round=number, attempt=attempt, reasons=words)
        what = "attempt %s at round %s is abandoned (%s)"
        self._log.warning(what, attempt, number, words or "too few nodes", extra=extra)

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Log that a round is on disk, and whose updates in it were clipped, or are another's."""
        for client in record["clients"]:
            if client["clip"] < 1:
                own = {"node": client["name"], "clip": client["clip"], "norm": client["norm"]}
                what = "%(node)s: clipped to %(clip).2g of its norm %(norm).3g"
                self._log.warning(what, own, extra=event("update-clipped", round=record["round"], **own))
            if client["same_as"]:
                own = {"node": client["name"], "same_as": client["same_as"]}
                what = "%(node)s: sent the same update as %(same_as)s"
                self._log.warning(what, own, extra=event("update-identical", round=record["round"], **own))
        if start := tell_start(record):
            self._log.warning("%s", start, extra=event("start-truncated", left_out=record["residual"]))
        if plan := record.get("plan"):
            self._log.info("%s", tell_plan(plan), extra=event("planned", parameters=plan["parameters"]))
        if head := record.get("head"):
            self._log.info("%s", tell_head(head), extra=event("head", round=record["round"], kept=head["kept"]))
        losses = [client["loss_after"] for client in record["clients"] if client["loss_after"] is not None]
        loss = f", mean loss of the nodes {sum(losses) / len(losses):.3f}" if losses else ""
        error, agreement = record["aggregation_error"], record["agreement"]
        exact = "" if error is None else f", aggregation error {error:.1e}"
        exact += "" if agreement is None else f", agreement {agreement:.2f}"
        number, seconds = record["round"], record["seconds"]
        extra = event("round-committed", round=number, seconds=seconds, aggregation_error=error, agreement=agreement)
        self._log.info("round %s is committed%s%s, %.1f s", number, loss, exact, seconds, extra=extra)


def tell_start(record: Mapping[str, Any]) -> str | None:
    """Return a line about what round 0 leaves out of the adapter that the run begins at; None if that is nothing."""
    if record["round"] or max(record["residual"], record["dropped"]) <= ROUNDING:
        return None
    lost = f"; rank_kept drops {record['dropped']:.2g} of it for good" if record["dropped"] > ROUNDING else ""
    return (
        f"the run begins at its adapter but for {record['residual']:.2g} of it (||S - G|| / ||S||): a broadcast of "
        f"rank {record['rank_global']} leaves that out (rank_global, wire); the server keeps it for later rounds{lost}"
    )


def tell_plan(plan: Mapping[str, Any]) -> str:
    """Return a line about the ranks of modules under a budget."""
    ranks = sorted(filter(None, plan["ranks"].values()))
    return (
        f"ranks {ranks[0]} to {ranks[-1]} on {len(ranks)} of {len(plan['ranks'])} modules: {plan['parameters']:,} "
        f"parameters of a budget of {plan['budget']:,}"
    )


def tell_head(head: Mapping[str, Any]) -> str:
    """Return a line about a head in closed form."""
    if reason := head.get("reason"):
        why = "too few nodes sent class sums" if reason == "quorum" else "no finite one comes of the nodes' class sums"
        return f"no head in closed form ({head['kind']}): {why}; the trained one stays"
    loss, trained = ("unknown" if head[key] is None else f"{head[key]:.3f}" for key in ("loss", "loss_trained"))
    stays = "in place of" if head["kept"] else "not better than"
    out = f"; {head['left_out']} rows of small classes are left out" if head["left_out"] else ""
    out += f"; not the sums of {', '.join(head['refused'])}, much longer than others'" if head["refused"] else ""
    return (
        f"head ({head['kind']}, lambda {head['lambda']:g}, temperature {head['temperature']:g}) of {head['rows']:.0f} "
        f"rows: held-out loss {loss}, {stays} the trained one with {trained}{out}"
    )
