"""Observers of a run: a progress display, a log, a status file."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any


class RunObserver:
    """Notified of each event of a run; each method does nothing by default."""

    def on_waiting(self, states: Mapping[str, str], needed: int) -> None:
        """Note that fewer than `needed` nodes are ready, or others load; a state is "ready", "loading" or a refusal."""

    def on_node_ready(self, number: int, name: str, unfinished: Sequence[str]) -> None:
        """Note, once a connection, that a node is ready, and which earlier runs' last updates it lacks.

        `number` is Flower's number of the node, which is new at each connection.
        """

    def on_look(self) -> None:
        """Note that the run has looked who is there: often while it waits for nodes, else between rounds."""

    def on_nodes(self, states: Mapping[str, str]) -> None:
        """Note the state of each connected node before an attempt at a round."""

    def on_run_started(self, rounds: int, done: int) -> None:
        """Note that a run of `rounds` rounds begins, of which `done` are done."""

    def on_round_started(self, number: int, clients: int) -> None:
        """Note that this number of clients was asked to train."""

    def on_client_done(self, name: str, status: str) -> None:
        """Note that a client's reply is valid ("ok"), or is not."""

    def on_silent(self, name: str, number: int, again: int) -> None:
        """Note that a node neither answered nor reported in round `number`, and is asked again in round `again`."""

    def on_evaluating(self, count: int) -> None:
        """Note that `count` nodes were asked for their loss under the new global update."""

    def on_round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """Note that an attempt at a round had too few updates; the reasons are by node name."""

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Note that a round is on disk; the record is its line of metrics.jsonl."""


class Observers(RunObserver):
    """Several observers as one: each event is passed on to all, in order."""

    def __init__(self, observers: Sequence[RunObserver]) -> None:
        for event in (name for name in vars(RunObserver) if name.startswith("on_")):
            setattr(self, event, partial(_call_all, [getattr(each, event) for each in observers]))


def _call_all(methods: Sequence[Callable[..., None]], *args: Any, **kwargs: Any) -> None:
    for method in methods:
        method(*args, **kwargs)
