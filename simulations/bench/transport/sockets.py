"""Connections to a server on this machine that no gRPC makes."""

import socket
import ssl
from pathlib import Path
from tempfile import NamedTemporaryFile

from common.identity.credentials import load_node_credentials
from simulations.bench.transport.deployment import HOST

TIMEOUT = 2.0
"""Seconds that a connection waits for anything."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a client of HTTP/2 sends first (RFC 9113, section 3.4): 24 fixed bytes, and here no settings."""


def plain_socket(port: int) -> socket.socket:
    """A connection without TLS."""
    return socket.create_connection((HOST, port), TIMEOUT)


def tls_socket(port: int, folder: Path | None = None, name: str = "") -> ssl.SSLSocket:
    """A connection under TLS and HTTP/2, as the node of this name in the project in this folder, or as nobody.

    Raises:
        OSError: the server does not take it, as far as that shows in the handshake.
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
    """What a client of TLS sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=HOST)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs an answer")
