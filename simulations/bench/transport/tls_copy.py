"""One copy through TLS with the standard library alone: from another process to this one, over loopback."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simulations.bench.transport.deployment import HOST, run_processes

CHUNK = 2**20


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
