"""Fake servers: addresses on this machine that send something else, too little, or nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


@contextmanager
def black_hole(host: str = "127.0.0.1") -> Iterator[int]:
    """Yield the port of a full queue of connections that is never served: the system drops further ones."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.create_server((host, 0), family=FAMILIES[host], backlog=0))
        for _ in range(8):
            filler = opened.enter_context(socket.socket(FAMILIES[host]))
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def closed_port(host: str = "127.0.0.1") -> int:
    """Return a port at which nothing listens."""
    with socket.create_server((host, 0), family=FAMILIES[host]) as server:
        return int(server.getsockname()[1])


@contextmanager
def talker(say: bytes | None, pause: float = 0.0) -> Iterator[int]:
    """Yield the port of a server that sends these bytes on each connection, and keeps it open; with None, closes it.

    With a pause, it says one byte each so many seconds.
    """
    over = threading.Event()
    with ExitStack() as opened:
        opened.callback(over.set)
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0)))

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection = opened.enter_context(server.accept()[0])
                    if say is None:
                        connection.close()
                    else:
                        threading.Thread(target=talk, args=(connection, say), daemon=True).start()

        def talk(connection: socket.socket, whole: bytes) -> None:
            with suppress(OSError):
                for part in [bytes([byte]) for byte in whole] if pause else [whole]:
                    connection.sendall(part)
                    over.wait(pause)

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]
