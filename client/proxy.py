"""The HTTP proxy between this machine and the server, as the environment names it."""

from base64 import b64encode
from http.client import HTTPConnection
from socket import create_connection, socket
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_of(host: str) -> str | None:
    """The URL in `https_proxy`, unless `no_proxy` exempts the host."""
    return None if proxy_bypass(host) else getproxies().get("https")


def dial(host: str, port: int, proxy: str | None, timeout: float) -> socket:
    """A connection to the host, through the proxy where there is one.

    Raises:
        OSError: there is none in `timeout` seconds, or the proxy refuses.
    """
    if proxy is None:
        return create_connection((host, port), timeout)
    url = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    connection = HTTPConnection(url.hostname or "", url.port or 80, timeout=timeout)
    connection.set_tunnel(host, port, _authorization(url))
    connection.connect()
    return connection.sock


def _authorization(url: SplitResult) -> dict[str, str]:
    if url.username is None:
        return {}
    user = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"}
