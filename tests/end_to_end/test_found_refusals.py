"""Found by attacks: refused calls do not fill the log, and no call leaves a traceback or ends the server."""

import json
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime

import grpc
import pytest

from common.identity import operator
from common.identity.credentials import load_node_credentials
from common.protocol.channel import INBOX, REPLY, SERVICE, NodeHello
from tests.helpers.end_to_end.command import end
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.end_to_end.raw_http2 import RawCalls, grpc_message
from tests.helpers.end_to_end.strangers import tls
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import hashes

NOT_UTF8 = "\udcff\udcfe"
CALLS = 3000
LINES = 70
"""Most lines of a run of three rounds beside an attack of one kind; without one it has about 30."""


def run_beside(folder, attack: Callable[[NumpyProject], None], *others: str) -> NumpyProject:
    """Run the honest nodes, the last of which comes only when the attack is over; `others` are admitted too."""
    project = NumpyProject(folder)
    project.admit_new([*(node.name for node in HONEST), *others])
    with project.serving() as server, ExitStack() as running:
        for node in HONEST[:2]:
            running.callback(project.node(node).stop)
        until(lambda: {f"node {node.name} is connected" for node in HONEST[:2]} <= set(project.log))
        attack(project)
        running.callback(project.node(HONEST[2]).stop)
        ended = end(server)
    assert ended.status == 0, project.log[-20:]
    return project


@contextmanager
def connection(project: NumpyProject, name: str) -> Iterator[ssl.SSLSocket]:
    own = load_node_credentials(project.folder / "nodes", name)
    with socket.create_connection(("127.0.0.1", project.port), 10) as raw:
        yield tls(own, tmp_path=project.folder).wrap_socket(raw)


@contextmanager
def channel(project: NumpyProject, name: str) -> Iterator[grpc.Channel]:
    own = load_node_credentials(project.folder / "nodes", name)
    credentials = grpc.ssl_channel_credentials(own.ca_pem, own.key_pem, own.certificate_pem)
    with grpc.secure_channel(f"localhost:{project.port}", credentials, [("grpc.enable_http_proxy", 0)]) as opened:
        yield opened


def refused_calls(project: NumpyProject) -> None:
    with channel(project, "eve") as opened:
        call = opened.stream_unary(f"/{SERVICE}/{REPLY}")
        for _ in range(CALLS):
            with pytest.raises(grpc.RpcError):
                call(iter([b"\0"]), timeout=10)


def test_found_S12_3000_refused_calls_are_a_few_lines_and_none_is_lost(undisturbed, tmp_path):
    project = run_beside(tmp_path, refused_calls, "eve")
    assert hashes(project.run) == hashes(undisturbed.run)
    assert len(project.log) < LINES
    refusals = json.loads((project.run / "status.json").read_text())["refusals"]
    counted = Counter({each["reason"]: each["count"] for each in refusals if each["name"] == "eve"})
    assert counted.total() >= CALLS
    assert counted.keys() <= {"stale", "rate", "malformed"}
    for reason, count in counted.items():
        assert f"node eve is rejected: {reason}" in project.log
        assert f"node eve was refused {count - 1:,} more times in the last minute: {reason}" in project.log


def reconnections(project: NumpyProject) -> None:
    for _ in range(50):
        with channel(project, "eve") as opened:
            for _ in range(4):
                stream = opened.unary_stream(f"/{SERVICE}/{INBOX}")(NodeHello(4).to_json(), timeout=10)
                assert dict(stream.initial_metadata())
                stream.cancel()


def hostile_calls(project: NumpyProject) -> None:
    """Methods and metadata that are not text, broken messages, and calls cancelled at each point, ten times each."""
    paths = ["/fedlora.v1/Inbox", "/fedlora.v1/Reply", "/fedlora.v1/No", f"/fedlora.v1/{NOT_UTF8}", f"/{NOT_UTF8}", "x"]
    bodies = [b"\0", grpc_message(NodeHello(4).to_json()), grpc_message(b"\xff" * 50), b"\xff" * 30]
    for path in paths:
        for body in bodies:
            for metadata in ({}, {"unexpected": NOT_UTF8}, {"grpc-timeout": "1n"}, {"a-bin": "!"}):
                for reset in (False, True):
                    with connection(project, "eve") as secured, suppress(OSError):
                        calls = RawCalls(secured)
                        for _ in range(4):
                            stream = calls.call(path, body, last=False, **metadata)
                            if reset:
                                calls.reset(stream)


@pytest.mark.parametrize("attack", [reconnections, hostile_calls])
def test_found_S12_no_call_leaves_a_traceback_or_fills_the_log(attack, undisturbed, tmp_path):
    project = run_beside(tmp_path, attack, "eve")
    assert hashes(project.run) == hashes(undisturbed.run)
    text = project.log_file.read_text()
    assert "Traceback" not in text
    assert "\x1b" not in text
    assert "eve" in text  # the control
    assert len(project.log) < LINES


def revoked_calls(project: NumpyProject) -> None:
    operator.revoke(project.folder / "keys", "eve", datetime.now(UTC))
    refused_calls(project)


@pytest.mark.slow
def test_found_S12_a_revoked_node_fills_the_log_as_little(undisturbed, tmp_path):
    project = run_beside(tmp_path, revoked_calls, "eve")
    assert hashes(project.run) == hashes(undisturbed.run)
    assert len(project.log) < LINES
    assert sum("node eve was refused" in line for line in project.log) > 0
