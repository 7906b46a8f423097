"""Connections on this machine made without gRPC: raw ones to a server, and a copy through TLS to compare with."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from common.identity.credentials import load_node_credentials
from simulations.bench.transport.deployment import HOST, run_processes

TIMEOUT = 2.0
"""Seconds that a connection waits for anything."""
CHUNK = 2**20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""First bytes of an HTTP/2 client (RFC 9113, section 3.4): 24 fixed bytes, then an empty SETTINGS frame."""


def plain_socket(port: int) -> socket.socket:
    """Open a connection without TLS."""
    return socket.create_connection((HOST, port), TIMEOUT)


def tls_socket(port: int, folder: Path | None = None, name: str = "") -> ssl.SSLSocket:
    """Open a connection with TLS and HTTP/2, as the node of this name in the project folder, or without a certificate.

    Raises:
        OSError: the server rejects it, as far as that shows in the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if folder:
        with NamedTemporaryFile() as file:  # ssl takes files only
            file.write(load_node_credentials(folder / "nodes", name).certificate_pem)
            file.flush()
            context.load_cert_chain(file.name, folder / "nodes" / f"{name}.key")
    return context.wrap_socket(plain_socket(port))


def client_hello() -> bytes:
    """Return the first bytes of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=HOST)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs an answer")


@contextmanager
def tls_copy(keys: Path, size: int) -> Iterator[Callable[[], None]]:
    """Connect, then yield a function that receives `size` bytes at each call."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with (
            run_processes([(_send, (keys, port, size))]),
            context.wrap_socket(server.accept()[0], server_side=True) as peer,
        ):
            yield lambda: _receive(peer, size)


def _receive(peer: ssl.SSLSocket, size: int) -> None:
    buffer, left = bytearray(CHUNK), size
    peer.sendall(b"!")
    while left:
        got = peer.recv_into(buffer)
        if not got:
            raise ConnectionError(f"{left} of {size} bytes did not arrive")
        left -= got


def _send(keys: Path, port: int, size: int) -> None:
    """Send `size` bytes whenever the other side asks."""
    context = ssl.create_default_context(cafile=keys / "ca.pem")
    chunk = bytes(CHUNK)
    with context.wrap_socket(socket.create_connection((HOST, port)), server_hostname=HOST) as peer:
        while peer.recv(1):
            for start in range(0, size, CHUNK):
                peer.sendall(chunk[: size - start])
