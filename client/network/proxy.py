"""The HTTP proxy between this machine and the server, as set in the environment."""

import re
from base64 import b64encode
from http.client import responses
from socket import socket
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from client.network.dial import Deadline
from common.errors import ConfigError

_HEAD = 2**16
"""Largest number of bytes in the head of an answer."""
_END = b"\r\n\r\n"


class ProxyError(OSError):
    """The proxy does not connect this node to the server."""


def find_proxy(host: str) -> str | None:
    """Return the proxy in `https_proxy`, as a URL with scheme and port; None if `no_proxy` exempts the host.

    Raises:
        ConfigError: it is not the URL of an HTTP proxy.
    """
    named = None if proxy_bypass(host) else getproxies().get("https")
    if not named:
        return None
    try:
        url = urlsplit(named if "://" in named else f"http://{named}")
        known = url.scheme == "http" and url.hostname and url.hostname.encode("idna")
        place = url.netloc if url.port else f"{url.netloc.removesuffix(':')}:80"
    except ValueError:
        known = place = ""
    if not known:  # gRPC ignores a proxy of another scheme and connects directly.
        raise ConfigError("https_proxy is not an HTTP proxy; write it as http://proxy.example.org:3128, or unset it")
    return f"http://{place}"


def tunnel(connection: socket, target: str, proxy: SplitResult, deadline: Deadline) -> None:
    """Make the proxy at the other end forward everything to the target, a host and a port.

    Raises:
        ProxyError: it does not.
        OSError: the connection breaks, or no answer comes by the deadline.
    """
    connection.settimeout(deadline.seconds_left())
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{_authorization(proxy)}\r\n".encode())
    status = _status(_head(connection, deadline))
    if status == 407:
        raise ProxyError(
            "the proxy answers 407: it requires a user and a password, as in https_proxy=http://USER:PASSWORD@HOST:PORT"
        )
    if not 200 <= status < 300:
        raise ProxyError(f"the proxy answers {status} {responses.get(status, '')}".rstrip())


def _head(connection: socket, deadline: Deadline) -> bytes:
    """Return the head of the answer, or part of it if the answer is not HTTP."""
    head = b""
    while _END not in head and b"HTTP/1.".startswith(head[:7]) and len(head) < _HEAD:
        connection.settimeout(deadline.seconds_left())
        part = connection.recv(_HEAD)
        if not part:
            raise ProxyError("the proxy hung up")
        head += part
    return head


def _status(head: bytes) -> int:
    line = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", head)
    if line is None or _END not in head:
        raise ProxyError("the proxy does not answer in HTTP; is it an HTTP proxy?")
    return int(line[1])


def _authorization(proxy: SplitResult) -> str:
    if proxy.username is None:
        return ""
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return f"Proxy-Authorization: Basic {b64encode(user.encode()).decode()}\r\n"
