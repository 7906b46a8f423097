"""A TCP connection by a given moment, whatever the network does or does not do."""

import socket
import time
from concurrent.futures import Future
from threading import Thread
from typing import Any

SocketAddress = tuple[Any, ...]
"""As `socket.getaddrinfo` gives it: family, type, protocol, name, and what `connect` takes."""


class Deadline:
    """The moment, so many seconds from now, by which all steps of something have to be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Seconds until then.

        Raises:
            TimeoutError: it has passed.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def dial(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Open a connection to the host.

    Raises:
        socket.gaierror: its name cannot be looked up in time.
        OSError: no address of it takes the connection in time; what the last one said.
    """
    return connect_first(_addresses(host, port, deadline), deadline)


def connect_first(addresses: list[SocketAddress], deadline: Deadline) -> socket.socket:
    """Connect to the first address that accepts. Each gets an equal share of the time that is left to it and
    those after it, so that one in a black hole, as IPv6 often is, leaves enough for the next.

    Raises:
        OSError: none takes it in time; what the last one said.
    """
    *others, last = addresses
    for place, address in enumerate(others):
        try:
            return _connect(address, deadline.seconds_left() / (len(addresses) - place))
        except OSError:
            continue
    return _connect(last, deadline.seconds_left())


def _connect(address: SocketAddress, seconds: float) -> socket.socket:
    family, kind, protocol, _, place = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(seconds)
        connection.connect(place)
    except BaseException:
        connection.close()
        raise
    return connection


def _addresses(host: str, port: int, deadline: Deadline) -> list[SocketAddress]:
    """Look up addresses in a thread that nobody waits for: the resolver has no time-out and ignores signals."""
    found: Future[list[SocketAddress]] = Future()

    def look_up() -> None:
        try:
            found.set_result(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:
            found.set_exception(error)

    Thread(target=look_up, daemon=True).start()
    try:
        return found.result(deadline.seconds_left())
    except TimeoutError:
        raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from None
