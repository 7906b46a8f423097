"""A call of any other method, whatever its name and metadata, is refused by name and leaves the server as it is."""

import logging
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.helpers.end_to_end.raw_http2 import RawCalls
from tests.helpers.end_to_end.strangers import tls
from tests.helpers.end_to_end.transport import ask, connected, nodes, until, values_of

NOT_UTF8 = "\udcff\udcfe"
PATHS = ["/fedlora.v1/Other", "/other/Inbox", "/", "nothing", f"/fedlora.v1/{NOT_UTF8}", f"/{NOT_UTF8}/Inbox", NOT_UTF8]


@pytest.fixture
def calls(start, authority, tmp_path, caplog):
    """Yield the raw connection of node `eve` to a grid, and the grid."""
    caplog.set_level(logging.INFO)
    grid = start()
    raw = socket.create_connection(("127.0.0.1", grid.port), 10)
    with tls(authority.node("eve"), tmp_path=tmp_path).wrap_socket(raw) as secured:
        yield RawCalls(secured), grid


def serves(grid, authority):
    """Return whether a node that comes now is heard."""
    with nodes(grid.port, authority, "honest"):
        connected(grid, 1)
        (reply,) = grid.send_and_receive(ask(grid), timeout=30)
    return values_of(reply)["name"] == "honest"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cancelled", [False, True])
def test_another_method_is_refused_by_name_and_the_server_goes_on(path, cancelled, calls, authority, caplog):
    raw, grid = calls
    for _ in range(3):
        stream = raw.call(path, b"\0\0\0\0\0")
        if cancelled:
            raw.reset(stream)
        else:
            raw.heard(stream)
    if path[0] == "/":  # gRPC itself ends the others
        until(lambda: "node eve is rejected: method" in caplog.messages)
    assert serves(grid, authority)
    assert "Traceback" not in caplog.text
    assert len(caplog.messages) < 12


def test_the_caller_is_told_that_there_is_no_such_method(start, authority):
    grid, pem = start(), authority.node("eve")
    credentials = grpc.ssl_channel_credentials(pem.ca_pem, pem.key_pem, pem.certificate_pem)
    options = [("grpc.enable_http_proxy", 0)]
    with (
        grpc.secure_channel(f"127.0.0.1:{grid.port}", credentials, options) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        channel.unary_unary("/fedlora.v1/Other")(b"", timeout=10)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "method")
    assert grid.meters["eve"].refused == {"method": 1}


@pytest.mark.parametrize("path", ["/fedlora.v1/Inbox", "/fedlora.v1/Reply", "/fedlora.v1/Other"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_metadata_that_are_not_text_have_one_line(path, cancelled, calls, authority, caplog):
    raw, grid = calls
    for _ in range(20):
        stream = raw.call(path, b"\0\0\0\0\0", unexpected=NOT_UTF8)
        if cancelled:
            raw.reset(stream)
        else:
            raw.heard(stream)
    assert serves(grid, authority)
    assert "Traceback" not in caplog.text
    assert sum("failed in gRPC" in line for line in caplog.messages) <= 2
    assert len(caplog.messages) < 14


@pytest.mark.parametrize("path", ["/grpc.health.v1.Health/Other", f"/{NOT_UTF8}", f"/grpc.health.v1.Health/{NOT_UTF8}"])
def test_another_method_leaves_the_health_service_as_it_is(path, start, caplog):
    grid = start(health_port=0)
    with socket.create_connection(("127.0.0.1", grid.health_port), 10) as raw:
        calls = RawCalls(raw)
        calls.heard(calls.call(path, b"\0\0\0\0\0"))
    with grpc.insecure_channel(f"127.0.0.1:{grid.health_port}", [("grpc.enable_http_proxy", 0)]) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
    assert "Traceback" not in caplog.text
