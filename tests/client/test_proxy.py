import pytest

from client.proxy import dial, proxy_of
from tests.connect_proxy import ConnectProxy


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_a_variable_there_is_none(environment):
    assert proxy_of("fed.example.org") is None
    environment.setenv("http_proxy", "http://plain:1")
    assert proxy_of("fed.example.org") is None


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
def test_the_variable_names_it(environment, name):
    environment.setenv(name, "http://proxy:3128")
    assert proxy_of("fed.example.org") == "http://proxy:3128"


def test_a_host_may_be_exempt(environment):
    environment.setenv("https_proxy", "http://proxy:3128")
    environment.setenv("no_proxy", "example.org,10.0.0.5")
    hosts = ["fed.example.org", "10.0.0.5", "fed.example.com"]
    assert [proxy_of(host) for host in hosts] == [None, None, "http://proxy:3128"]


def test_a_proxy_that_refuses_is_an_error_that_says_so():
    proxy = ConnectProxy(status=403)
    with pytest.raises(OSError, match="403"):
        dial("fed.example.org", 8443, proxy.url, 5)
    assert proxy.asked == ["fed.example.org:8443"]
    proxy.close()


def test_a_user_and_password_are_sent():
    proxy = ConnectProxy(user="user:p w")
    with pytest.raises(OSError, match="407"):
        dial("127.0.0.1", 1, proxy.url.replace("user:p w@", "user:other@"), 5)
    own = ConnectProxy()  # it is only a place to connect to
    port = int(own.url.rpartition(":")[2])
    dial("127.0.0.1", port, proxy.url.replace("p w", "p%20w"), 5).close()
    own.close()
    proxy.close()
