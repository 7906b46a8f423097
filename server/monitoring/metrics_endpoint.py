"""Metrics of a running server for Prometheus, over HTTP on 127.0.0.1.

Nothing is labelled by node: `fedlora status` has each node, and a label would tell all that read the metrics who takes
part.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from common.errors import TransportError
from server.monitoring.status_file import Traffic
from server.rounds.observer import RunObserver

STATES = "loading", "ready", "refused", "silent"
"""States of a node: the label of `fedlora_nodes`."""
PHASES = "starting", "waiting", "training", "evaluating", "between"
"""What a server spends its time on: the label of `fedlora_phase_seconds_total`."""


class RunMetrics(RunObserver, Collector):
    """Counts the events of a run, and reads the grid's traffic when it is asked.

    Args:
        traffic: of the run's grid.
        members: returns the names of all nodes that may take part.
        clock: returns seconds that never go back.
    """

    def __init__(
        self, traffic: Traffic, members: Callable[[], Iterable[str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._traffic, self._members, self._clock, self._lock = traffic, members, clock, Lock()
        self._states: Mapping[str, str] = {}
        self._totals, self._refused = Counter[str](), Counter[str]()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase, self._since = PHASES[0], clock()
        self._rounds, self._committed = 0, 0.0
        self._record: dict[str, Any] = {"round": 0, "clients": []}

    def restore(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Count the committed rounds of a resumed run."""
        for entry in entries:
            self._count(entry["metrics"])

    def on_waiting(self, states: Mapping[str, str], needed: int) -> None:
        """Count time in which too few nodes are ready."""
        self._states = dict(states)
        self._enter("waiting")

    def on_nodes(self, states: Mapping[str, str]) -> None:
        """Keep the state of each node."""
        self._states = dict(states)

    def on_run_started(self, rounds: int, done: int) -> None:
        """Keep the number of rounds."""
        self._rounds = rounds
        self._enter("between")

    def on_round_started(self, number: int, clients: int) -> None:
        """Count time in which nodes train."""
        self._enter("training")

    def on_evaluating(self, count: int) -> None:
        """Count time in which nodes evaluate."""
        self._enter("evaluating")

    def on_round_abandoned(self, number: int, attempt: int, reasons: Mapping[str, str]) -> None:
        """Count the attempt, and why replies did not count."""
        with self._lock:
            self._totals["abandoned"] += 1
            self._refused.update(reasons.values())
        self._enter("between")

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Count the round."""
        self._committed = time.time()
        self._count(record)
        self._enter("between")

    def _enter(self, phase: str) -> None:
        with self._lock:
            now = self._clock()
            self._seconds[self._phase] += now - self._since
            self._phase, self._since = phase, now

    def _count(self, record: Mapping[str, Any]) -> None:
        clients = record["clients"]
        with self._lock:
            self._record = dict(record)
            for direction in ("up", "down"):
                self._totals[direction] += record[f"bytes_{direction}"]
            self._totals["clipped"] += sum(client.get("clip", 1.0) < 1 for client in clients)
            self._refused.update(client["reason"] for client in clients if client["reason"])

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        with self._lock:
            seconds, refused, totals, record = (
                dict(self._seconds),
                Counter(self._refused),
                dict(self._totals),
                self._record,
            )
            seconds[self._phase] += self._clock() - self._since
        meters = list(self._traffic.meters.values())
        for meter in meters:
            refused.update(dict(meter.refused))
        yield _gauge("rounds", "Rounds of the run.", self._rounds)
        yield _gauge("rounds_done", "Last committed round.", record["round"])
        yield _gauge("last_commit_timestamp_seconds", "Unix time of this server's last commit.", self._committed)
        yield _labelled("nodes", "Nodes by state.", "state", self._nodes(), GaugeMetricFamily)
        yield _labelled("phase_seconds", "Time by phase.", "phase", seconds)
        yield _labelled("refusals", "Refused calls and replies.", "reason", refused)
        counted = {direction: totals.get(direction, 0) for direction in ("up", "down")}
        yield _labelled("round_bytes", "Bytes of committed rounds.", "direction", counted)
        moved = {"up": sum(meter.received for meter in meters), "down": sum(meter.sent for meter in meters)}
        yield _labelled("transport_bytes", "Bytes since this server started.", "direction", moved)
        yield _counter("rounds_abandoned", "Attempts with too few updates.", totals.get("abandoned", 0))
        yield _counter("updates_clipped", "Updates that the norm bound scaled.", totals.get("clipped", 0))
        yield from _of_last_round(record)

    def _nodes(self) -> dict[str, float]:
        """Return the number of nodes in each state."""
        counts, connected = dict.fromkeys(STATES, 0.0), {*self._traffic.names()}
        for name in {*self._members()} | connected:
            told = re.split("[:,]", self._states.get(name, "loading"))[0]  # "ready, at rank 4 of its 8"
            counts[(told if told in STATES else "loading") if name in connected else "silent"] += 1
        return counts


def _of_last_round(record: Mapping[str, Any]) -> Iterator[Metric]:
    clients = record["clients"]
    if norms := [client["norm"] for client in clients if client.get("norm") is not None]:
        told = {"min": min(norms), "median": median(norms), "max": max(norms)}
        text = "Norms of the counted updates of the last round, as received."
        yield _labelled("update_norm", text, "statistic", told, GaugeMetricFamily)
    if bounds := [client["norm"] * client["clip"] for client in clients if client.get("clip", 1.0) < 1]:
        yield _gauge("update_norm_bound", "Largest norm to which an update of the last round was scaled.", max(bounds))
    for key, text in (("seconds", "Duration of the last round."), ("aggregation_error", "Relative error of its sum.")):
        if record.get(key) is not None:
            yield _gauge(f"last_round_{key}", text, record[key])


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"fedlora_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"fedlora_{name}", text, value=value)


def _labelled(
    name: str,
    text: str,
    label: str,
    values: Mapping[str, float],
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily] = CounterMetricFamily,
) -> Metric:
    family = kind(f"fedlora_{name}", text, labels=[label])
    for each, value in sorted(values.items()):
        family.add_metric([each], value)
    return family


@contextmanager
def serving_metrics(port: int | None, metrics: RunMetrics) -> Iterator[int | None]:
    """Serve the metrics on 127.0.0.1 while the block runs, and yield the port; without a port, serve nothing.

    Raises:
        TransportError: the port cannot be listened at.
    """
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        what = f"metrics = {port}: cannot listen at 127.0.0.1:{port}: {error.strerror}"
        raise TransportError(f"{what}; choose another port, or 0 for a free one") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
