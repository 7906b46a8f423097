"""No call is compressed, by any name: neither a node's nor a server's."""

import gzip
import socket
import ssl
import zlib
from tempfile import NamedTemporaryFile

import pytest
from flwr.app import Error, Message

from common.protocol.channel import INBOX, REPLY, SERVICE, NodeHello
from common.protocol.frames import encode_message
from tests.helpers.end_to_end.raw_http2 import RawCalls, grpc_message, raw_server
from tests.helpers.end_to_end.strangers import tls
from tests.helpers.end_to_end.transport import Node, RawNode, ask, blob_of, content, pull, until

SIZE = 2**14
"""Bytes of a reply; its call fits into the windows of a new connection."""
WAYS = {"gzip": gzip.compress, "deflate": zlib.compress}
CASES = [
    *(("gzip", flag, b"Compression algorithm 'gzip' is disabled") for flag in (1, 0)),
    *(("deflate", flag, b"Compression algorithm 'deflate' is disabled") for flag in (1, 0)),
    *((name, 1, b"grpc-encoding") for name in ("snappy", "zstd", "br", "GZIP", "stream/gzip", "gzip, identity")),
    ("snappy", 0, b"grpc-encoding"),
    *((name, 1, b"Compression bit set but no encoding configured") for name in ("identity", None)),
    (None, 2, b"malformed"),
]
"""The name of a call's compression, the flag of each message, and what the server says to that."""


@pytest.fixture
def connect(authority, grid, tmp_path_factory):
    """Connect as node a: by gRPC, and without it."""
    own, made = authority.node("a"), []
    context = tls(own, tmp_path=tmp_path_factory.mktemp("keys"))

    def connect():
        made.append(RawCalls(context.wrap_socket(socket.create_connection(("127.0.0.1", grid.port), 10))))
        return made[-1]

    connect.node = RawNode(grid.port, own).admitted()
    yield connect
    for calls in made:
        calls.close()
    connect.node.close()


def reply(grid, connect, encoding, flag):
    """Send a reply; return what the server says to it, and what its app gets."""
    ids, calls = grid.push_messages(ask(grid)), connect()
    frames = encode_message(Message(content(bytes(SIZE)), reply_to=connect.node.receive()))
    change = WAYS.get(encoding, bytes) if flag == 1 else bytes
    body = b"".join(grpc_message(change(frame), flag) for frame in frames)
    return calls.heard(calls.call(f"/{SERVICE}/{REPLY}", body, encoding)), pull(grid, ids)


@pytest.mark.parametrize("encoding", [None, "identity"])
def test_a_reply_as_it_is_counts(grid, connect, encoding):
    said, got = reply(grid, connect, encoding, 0)
    assert b"grpc-status\x010" in said
    assert blob_of(got) == bytes(SIZE)


@pytest.mark.parametrize(("encoding", "flag", "word"), CASES)
def test_a_compressed_reply_is_refused_and_the_log_names_the_node(grid, connect, caplog, encoding, flag, word):
    said, got = reply(grid, connect, encoding, flag)
    assert word in said
    assert got.error == Error(5, "absent")
    until(lambda: "a call of node a has no first frame: it was compressed" in caplog.text, 5)


@pytest.mark.parametrize(("encoding", "flag", "word"), CASES)
def test_a_compressed_hello_is_refused_and_the_log_names_the_node(grid, connect, caplog, encoding, flag, word):
    connect.node.close()
    until(lambda: not grid.names())
    calls, change = connect(), WAYS.get(encoding, bytes) if flag == 1 else bytes
    hello = grpc_message(change(NodeHello(4).to_json()), flag)
    assert word in calls.heard(calls.call(f"/{SERVICE}/{INBOX}", hello, encoding))
    assert grid.names() == []
    until(lambda: "a call of node a has no first frame: it was compressed" in caplog.text, 5)


@pytest.mark.parametrize("encoding", [None, "identity"])
def test_a_hello_as_it_is_connects(grid, connect, encoding):
    connect.node.close()
    until(lambda: not grid.names())
    calls = connect()
    calls.call(f"/{SERVICE}/{INBOX}", grpc_message(NodeHello(4).to_json()), encoding)
    until(lambda: grid.names() == ["a"])


@pytest.mark.parametrize(
    ("encoding", "flag", "said"),
    [
        (None, 0, "the length of a first frame differs"),
        ("gzip", 1, "Compression algorithm 'gzip' is disabled"),
        ("deflate", 1, "Compression algorithm 'deflate' is disabled"),
        ("snappy", 1, "grpc-encoding"),
        (None, 1, "no encoding configured"),
    ],
)
def test_a_node_takes_nothing_that_a_server_has_compressed(authority, encoding, flag, said, caplog):
    body = grpc_message(WAYS.get(encoding, bytes)(bytes(1000)), flag)
    with raw_server(tls_of_server(authority.server()), body, encoding) as port:
        node = Node(port, authority.node("a"), "a")
        until(lambda: node.error or said in caplog.text)
        node.stop()
    assert said in f"{node.error}" + caplog.text


def tls_of_server(own):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    with NamedTemporaryFile() as file:
        file.write(own.certificate_pem + own.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


@pytest.mark.parametrize("name", ["unexpected", "admitted"])
def test_a_server_whose_metadata_are_not_text_leaves_no_traceback_at_a_node(name, authority, caplog):
    with raw_server(tls_of_server(authority.server()), b"", None, **{name: "\udcff\udcfe"}) as port:
        node = Node(f"localhost:{port}", authority.node("a"), "a")
        until(lambda: "Invalid encoding" in caplog.text, 20)
        node.stop()
    assert "Traceback" not in caplog.text
