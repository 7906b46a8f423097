"""Prometheus reads what a run does, on loopback only, and changes no bit of it; a JSON log has one object a line."""

import json
import re
import socket
import time
import urllib.request
from contextlib import ExitStack

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.end_to_end.command import end, start
from tests.helpers.end_to_end.deployment import free_port
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import hashes, records


def slow_in_round_3(kind, asked, reply):
    if kind == "train" and asked.values["round"] == 3:
        time.sleep(3)
    return reply


def scrape(port):
    """Return each sample's value by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """Return a run with metrics and a JSON log, what was scraped in its round 3, and the hosts of that port."""
    project = NumpyProject(tmp_path_factory.mktemp("scraped"), metrics=0)
    project.admit_new(node.name for node in HONEST)
    with project.serving("--log-format", "json") as server, ExitStack() as running:
        for node in HONEST:
            running.callback(project.node(node, slow_in_round_3).stop)
        until(lambda: "round 3: 3 nodes train" in project.log_file.read_text())
        (port,) = re.findall(r"http://127.0.0.1:(\d+)/metrics", project.log_file.read_text())[:1]
        samples = scrape(port)
        sockets = psutil.Process(server.pid).net_connections()
        hosts = {each.laddr.ip for each in sockets if each.status == "LISTEN" and each.laddr.port == int(port)}
        assert end(server).status == 0
    return project, samples, hosts


def test_the_values_are_those_of_metrics_jsonl(scraped):
    project, samples, _ = scraped
    told = records(project.run)[:3]
    assert samples["fedlora_rounds",] == 3
    assert samples["fedlora_rounds_done",] == 2
    assert samples["fedlora_nodes", "ready"] == 3
    for way in ("up", "down"):
        assert samples["fedlora_round_bytes_total", way] == sum(record[f"bytes_{way}"] for record in told)
        assert samples["fedlora_transport_bytes_total", way] > 0
    norms = [client["norm"] for client in told[-1]["clients"]]
    assert samples["fedlora_update_norm", "max"] == pytest.approx(max(norms))
    assert samples["fedlora_update_norm", "min"] == pytest.approx(min(norms))
    assert samples["fedlora_last_round_seconds",] == told[-1]["seconds"]
    assert samples["fedlora_phase_seconds_total", "training"] > 0


def test_a_log_of_json_has_one_object_a_line(scraped):
    events = [json.loads(line)["event"] for line in scraped[0].log_file.read_text().splitlines()]
    assert {"listening", "metrics", "run-started", "round-started", "round-committed"} <= {*events}


def test_metrics_change_no_bit(scraped, undisturbed):
    assert hashes(undisturbed.run) == hashes(scraped[0].run)
    assert "metrics at" not in undisturbed.log_file.read_text()


def test_only_this_machine_can_ask(scraped):
    assert scraped[2] == {"127.0.0.1"}


def test_a_port_in_use_is_named(tmp_path):
    port = free_port()
    project = NumpyProject(tmp_path, metrics=port)
    project.admit_new(node.name for node in HONEST)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        ended = end(start("server", project.file))
    assert ended.status == 2
    assert f"metrics = {port}: cannot listen" in ended.err
    assert "Traceback" not in ended.err
