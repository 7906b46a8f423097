"""Metrics of a run in memory, as Prometheus's own parser reads them."""

import socket
import urllib.request
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.errors import TransportError
from server.monitoring.metrics_endpoint import PHASES, RunMetrics, serving_metrics
from server.transport.quota import NodeQuota, TrafficMeter
from tests.helpers.server.exchange import MemoryExchange, NumpyNode
from tests.helpers.server.runs import clients, plan, run
from tests.helpers.server.spoilt_nodes import SpoilingNode, larger_b


def traffic(*names):
    """Return a grid's traffic, to which these nodes are connected."""
    meters = {name: TrafficMeter(NodeQuota(), received=10, sent=20) for name in names}
    return SimpleNamespace(meters=meters, names=lambda: list(names))


def scraped(metrics):
    """Return each sample's value by name and label."""
    with (
        serving_metrics(0, metrics) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer,
    ):
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_they_are_those_of_the_run(tmp_path):
    metrics = RunMetrics(traffic("ada", "bob", "eve"), lambda: ["ada", "bob", "eve", "dan"])
    nodes = [NumpyNode("ada", 4), NumpyNode("bob", 2), SpoilingNode("eve", 4, change=larger_b(1e30))]
    entries = run(tmp_path, MemoryExchange(nodes), plan(2), metrics)
    samples, records = scraped(metrics), [entry["metrics"] for entry in entries]
    assert (samples["fedlora_rounds",], samples["fedlora_rounds_done",]) == (2, 2)
    for way in ("up", "down"):
        assert samples["fedlora_round_bytes_total", way] == sum(record[f"bytes_{way}"] for record in records)
    assert (samples["fedlora_transport_bytes_total", "up"], samples["fedlora_transport_bytes_total", "down"]) == (
        30,
        60,
    )
    clipped = [c for entry in entries[1:] for c in clients(entry).values() if c["clip"] < 1]
    assert samples["fedlora_updates_clipped_total",] == len(clipped) > 0
    last = [c for c in clients(entries[-1]).values() if c["clip"] < 1]
    assert samples["fedlora_update_norm_bound",] == pytest.approx(max(c["norm"] * c["clip"] for c in last))
    assert samples["fedlora_update_norm", "max"] == max(c["norm"] for c in clients(entries[-1]).values())
    assert samples["fedlora_last_round_aggregation_error",] == records[-1]["aggregation_error"]


def test_nodes_are_counted_by_state():
    metrics = RunMetrics(traffic("ada", "bob", "cyd", "eve", "fay"), lambda: ["ada", "dan"])
    told = {"ada": "ready, at rank 4 of its 8", "bob": "refused: rows", "cyd": "loading", "dan": "ready"}
    metrics.on_waiting(told | {"eve": "silent, asked again in round 5", "fay": "ready"}, 3)
    samples = scraped(metrics)
    counted = {state: samples["fedlora_nodes", state] for state in ("ready", "refused", "loading", "silent")}
    assert counted == {"ready": 2, "refused": 1, "loading": 1, "silent": 2}  # of dan is known that it is gone


def test_time_is_counted_by_phase():
    now = [0.0]
    metrics = RunMetrics(traffic(), list, clock=lambda: now[0])
    events = [
        lambda: metrics.on_waiting({}, 2),
        lambda: metrics.on_round_started(1, 2),
        lambda: metrics.on_evaluating(2),
        lambda: metrics.on_round_abandoned(1, 1, {"ada": "nan"}),
    ]
    for seconds, event in enumerate(events, 1):
        now[0] += seconds
        event()
    now[0] += 5
    samples = scraped(metrics)
    assert {phase: samples["fedlora_phase_seconds_total", phase] for phase in PHASES} == {
        **{"starting": 1, "waiting": 2, "training": 3, "evaluating": 4, "between": 5}
    }
    assert samples["fedlora_rounds_abandoned_total",] == samples["fedlora_refusals_total", "nan"] == 1


def test_a_resumed_run_goes_on_counting(tmp_path):
    nodes = MemoryExchange([NumpyNode("ada", 4), NumpyNode("bob", 2)])
    entries = run(tmp_path, nodes, plan(2))
    metrics = RunMetrics(traffic(), list)
    metrics.restore(entries)
    assert scraped(metrics)["fedlora_round_bytes_total", "up"] == sum(e["metrics"]["bytes_up"] for e in entries)


def test_a_port_in_use_is_named_with_its_key():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(TransportError, match=f"metrics = {port}: cannot listen .* choose another port, or 0"),
            serving_metrics(port, RunMetrics(traffic(), list)),
        ):
            pass


def test_without_a_port_nothing_is_served():
    with serving_metrics(None, RunMetrics(traffic(), list)) as port:
        assert port is None
