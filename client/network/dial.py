"""A TCP connection within a deadline, whatever the network does."""

import socket
import time
from concurrent.futures import Future
from threading import Thread
from typing import Any

SocketAddress = tuple[Any, ...]
"""An address as `socket.getaddrinfo` returns it: family, type, protocol, name, and the argument of `connect`."""


class Deadline:
    """A time limit in seconds from now, shared by all steps of a connection."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            TimeoutError: it has passed.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class Patience:
    """A bound on a series of equal faults: how long it lasts, and how often it is said.

    Args:
        seconds: how long it may last.
        pause: seconds after which the same words are said again.
    """

    def __init__(self, seconds: float, pause: float) -> None:
        self._seconds, self._pause = seconds, pause
        self.end()

    def end(self) -> None:
        """End the series: the next fault begins another."""
        self._began: float | None = None
        self._said, self._when = "", 0.0

    def is_over(self) -> bool:
        """Count a fault, and return whether the series has lasted too long."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        return now - self._began >= self._seconds

    def is_due(self, words: str) -> bool:
        """Return whether to say these words: they are other ones than the last, or those were said long ago."""
        now = time.monotonic()
        if words == self._said and now - self._when < self._pause:
            return False
        self._said, self._when = words, now
        return True


def dial(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Open a connection to the host.

    Raises:
        socket.gaierror: its name cannot be looked up in time.
        OSError: none of its addresses accepts in time; the error is the last one's.
    """
    return connect_first(_addresses(host, port, deadline), deadline)


def connect_first(addresses: list[SocketAddress], deadline: Deadline) -> socket.socket:
    """Connect to the first address that accepts.

    Each gets an equal share of the time that is left for it and those after it, so that an address that never answers,
    as with broken IPv6, leaves enough for the next.

    Raises:
        OSError: none accepts in time; the error is the last one's.
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
    """Look up addresses in a thread that can be left behind: the resolver has no time-out and ignores signals."""
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
