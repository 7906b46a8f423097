"""Raw connections to a server on this machine, made without gRPC."""

import socket
import ssl
from pathlib import Path
from tempfile import NamedTemporaryFile

from common.identity.credentials import load_node_credentials
from simulations.bench.transport.deployment import HOST

TIMEOUT = 2.0
"""Seconds that a connection waits for anything."""
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
