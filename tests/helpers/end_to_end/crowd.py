"""A crowd at a server's door: connections that are held, and opened again as soon as they are closed."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from common.protocol.channel import INBOX, SERVICE, NodeHello
from tests.helpers.end_to_end.raw_http2 import RawCalls, grpc_message
from tests.helpers.end_to_end.transport import until

Opened = Callable[[], socket.socket]
"""Opens one connection."""
HELLO = grpc_message(NodeHello(4).to_json())


def plain(port: int, first: bytes = b"", host: str = "127.0.0.1") -> socket.socket:
    """Connect without TLS, and send these bytes."""
    peer = socket.create_connection((host, port), 10)
    peer.sendall(first)
    return peer


def secured(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Connect and shake hands."""
    peer = plain(port)
    try:
        return context.wrap_socket(peer)
    except OSError:
        peer.close()
        raise


def greeted(port: int, context: ssl.SSLContext) -> socket.socket:
    """Connect, and leave the handshake after its first message."""
    said = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said).do_handshake()
    return plain(port, said.read())


def calling(port: int, context: ssl.SSLContext, body: bytes = b"", last: bool = False) -> ssl.SSLSocket:
    """Connect, shake hands, and begin to open a node's stream with these bytes."""
    peer = secured(port, context)
    RawCalls(peer).call(f"/{SERVICE}/{INBOX}", body, last=last)
    return peer


def stands(peer: socket.socket) -> bool:
    """Return whether the other side has not closed the connection; what it said is dropped."""
    peer.settimeout(0.0)
    with suppress(BlockingIOError, ssl.SSLWantReadError):
        try:
            while peer.recv(2**16):
                pass
        except (ConnectionError, ssl.SSLError) as error:
            if isinstance(error, ssl.SSLWantReadError):
                raise
            return False
        return False
    return True


class Crowd:
    """Holds `count` connections until it is stopped; `opened` is how many it has opened."""

    def __init__(self, open_one: Opened, count: int) -> None:
        self._open_one, self._count = open_one, count
        self._stopped, self.opened, self.held = threading.Event(), 0, list[socket.socket]()
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        while not self._stopped.is_set():
            standing = []
            for peer in self.held:
                standing.append(peer) if stands(peer) else peer.close()
            self.held = standing
            for _ in range(self._count - len(standing)):
                if self._stopped.is_set():
                    break
                with suppress(OSError):
                    self.held.append(self._open_one())
                self.opened += 1
            time.sleep(0.2)

    def stop(self) -> None:
        """Hang up."""
        self._stopped.set()
        self._thread.join(60)
        for peer in self.held:
            peer.close()


@contextmanager
def crowd(open_one: Opened, count: int) -> Iterator[Crowd]:
    """Yield a crowd that has tried to open all of its connections."""
    made = Crowd(open_one, count)
    try:
        until(lambda: made.opened >= count, 120)
        yield made
    finally:
        made.stop()
