"""The connections that a server of this process has accepted, as the system lists them.

gRPC tells nobody of a connection before its first call; the table of open files has it from the start.
"""

import os
import socket
import stat
from collections.abc import Mapping
from contextlib import closing, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import unquote

Host = IPv4Address | IPv6Address


class Address(NamedTuple):
    """The other end of a connection."""

    host: Host
    port: int


class OpenSocket(NamedTuple):
    """A socket in the table of open files.

    Args:
        inode: tells it from a later one of the same number.
        address: of its peer; None if no peer of the server's port is at the other end.
    """

    inode: int
    address: Address | None


def open_sockets(port: int, before: Mapping[int, OpenSocket]) -> dict[int, OpenSocket]:
    """Return this process's sockets by file number.

    Args:
        port: of the server.
        before: what the last call returned; sockets in it are not asked again.
    """
    with os.scandir("/dev/fd") as files:
        numbers = [int(file.name) for file in files]
    found = {}
    for number in numbers:
        with suppress(OSError):  # closed meanwhile
            status = os.fstat(number)
            if stat.S_ISSOCK(status.st_mode):
                old = before.get(number)
                known = old is not None and old.inode == status.st_ino
                found[number] = old if old and known else OpenSocket(status.st_ino, _peer(number, port))
    return found


def _peer(number: int, port: int) -> Address | None:
    looked = socket.socket(fileno=number)
    try:
        return _address(*looked.getpeername()[:2]) if looked.getsockname()[1:2] == (port,) else None
    except OSError:  # it listens, or its peer has gone
        return None
    finally:
        looked.detach()


def shut(number: int, address: Address, port: int) -> None:
    """Shut a connection for both sides, if the file of this number is still the one to this address."""
    with suppress(OSError), closing(socket.socket(fileno=os.dup(number))) as own:
        if _peer(own.fileno(), port) == address:
            own.shutdown(socket.SHUT_RDWR)


def address_of(peer: str) -> Address | None:
    """Return the address in gRPC's text for it, as `ipv4:10.0.0.5:4711` or `ipv6:%5B::1%5D:4711`; None for another."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    try:
        return _address(host.strip("[]"), int(port))
    except ValueError:
        return None


def _address(host: str, port: int) -> Address:
    plain = ip_address(host.partition("%")[0])
    return Address(getattr(plain, "ipv4_mapped", None) or plain, port)
