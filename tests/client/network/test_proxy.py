import re
import socket
from urllib.parse import urlsplit

import pytest

from client.network.dial import Deadline
from client.network.proxy import ProxyError, find_proxy, tunnel
from common.errors import ConfigError
from tests.helpers.end_to_end.connect_proxy import ConnectProxy
from tests.helpers.end_to_end.fake_servers import closed_port


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_a_variable_there_is_none(environment):
    assert find_proxy("fed.example.org") is None
    environment.setenv("http_proxy", "http://plain:1")
    assert find_proxy("fed.example.org") is None


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
def test_the_variable_names_it(environment, name):
    environment.setenv(name, "http://proxy:3128")
    assert find_proxy("fed.example.org") == "http://proxy:3128"


def test_a_host_may_be_exempt(environment):
    environment.setenv("https_proxy", "http://proxy:3128")
    environment.setenv("no_proxy", "example.org,10.0.0.5")
    hosts = ["fed.example.org", "10.0.0.5", "fed.example.com"]
    assert [find_proxy(host) for host in hosts] == [None, None, "http://proxy:3128"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("http://proxy", "http://proxy:80"),
        ("http://proxy:", "http://proxy:80"),
        ("http://proxy:3128/", "http://proxy:3128"),
        ("http://user:p%20w@[::1]:3128", "http://user:p%20w@[::1]:3128"),
        ("", None),
    ],
)
def test_it_is_a_url_with_a_port(environment, written, meant):
    environment.setenv("https_proxy", written)
    assert find_proxy("fed.example.org") == meant


@pytest.mark.parametrize(
    "written",
    [
        "https://proxy:3128",
        "socks5://proxy:1080",
        "http://",
        "http://:3128",
        "http://u:secret@proxy:x",
        "http://a..b:1",
    ],
)
def test_what_is_no_http_proxy_is_refused_without_its_password(environment, written):
    environment.setenv("https_proxy", written)
    with pytest.raises(ConfigError, match="https_proxy is not an HTTP proxy") as refused:
        find_proxy("fed.example.org")
    assert "secret" not in str(refused.value)


def ask(proxy: ConnectProxy, target: str, user: str | None = None) -> None:
    """Ask the proxy for a way to the target, if need be with another user and password than it wants."""
    url = urlsplit(proxy.url if user is None else re.sub("//.*@", f"//{user}", proxy.url))
    with socket.create_connection((url.hostname, url.port)) as connection:
        tunnel(connection, target, url, Deadline(10))


def test_a_proxy_that_refuses_is_an_error_that_says_so():
    proxy = ConnectProxy(status=403)
    with pytest.raises(ProxyError, match="answers 403 Forbidden"):
        ask(proxy, "fed.example.org:8443")
    assert proxy.asked == ["fed.example.org:8443"]
    proxy.close()


def test_a_user_and_password_are_sent():
    proxy = ConnectProxy(user="user:p w")
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"127.0.0.1:{server.getsockname()[1]}"
        for wrong in ("", "user:other@"):
            with pytest.raises(ProxyError, match="407: it requires a user and a password"):
                ask(proxy, target, wrong)
        ask(proxy, target)
    proxy.close()


def test_a_server_that_is_not_there_is_told_by_the_proxy():
    proxy = ConnectProxy()
    with pytest.raises(ProxyError, match="answers 502 Bad Gateway"):
        ask(proxy, f"127.0.0.1:{closed_port()}")
    proxy.close()
