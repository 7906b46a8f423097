import socket
import threading
from contextlib import ExitStack, closing

import pytest

from client.network.dial import Deadline, connect_first, dial
from tests.helpers.end_to_end.fake_servers import FAMILIES, black_hole, closed_port


def address(host, port):
    (found,) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return found


@pytest.fixture
def place():
    """Yield functions from a loopback host to an address that takes no connection, or that answers (`good`)."""
    with ExitStack() as opened:
        holes = {host: opened.enter_context(black_hole(host)) for host in FAMILIES}
        servers = {host: socket.create_server((host, 0), family=family) for host, family in FAMILIES.items()}
        for server in servers.values():
            opened.enter_context(server)
        yield {
            "hole": lambda host: address(host, holes[host]),
            "good": lambda host: address(host, servers[host].getsockname()[1]),
            "closed": lambda host: address(host, closed_port(host)),
        }


@pytest.mark.parametrize("first", ["hole", "closed", "good"])
@pytest.mark.parametrize("count", [1, 2])
def test_an_address_that_takes_no_connection_leaves_time_for_the_next(place, first, count):
    addresses = [place[first]("::1")] * count + [place["good"]("127.0.0.1")]
    with closing(connect_first(addresses, Deadline(0.5))) as connection:
        assert connection.getpeername()[:2] == addresses[0 if first == "good" else -1][4][:2]


@pytest.mark.parametrize(
    ("kinds", "error"),
    [
        (["hole"], TimeoutError),
        (["closed"], ConnectionRefusedError),
        (["hole", "hole", "hole"], TimeoutError),
        (["hole", "closed"], ConnectionRefusedError),
        (["closed", "hole"], TimeoutError),
    ],
)
def test_where_no_address_takes_one_the_last_says_why(place, kinds, error):
    with pytest.raises(error):
        connect_first([place[kind]("127.0.0.1") for kind in kinds], Deadline(0.5))


def test_the_deadline_is_one_for_all_addresses(place):
    deadline = Deadline(0.4)
    with pytest.raises(TimeoutError):
        connect_first([place["hole"](host) for host in FAMILIES] * 4, deadline)
    with pytest.raises(TimeoutError):
        deadline.seconds_left()


def test_what_is_left_of_the_time_falls():
    deadline = Deadline(60)
    first = deadline.seconds_left()
    assert 0 < deadline.seconds_left() <= first <= 60


@pytest.fixture
def silent_resolver(monkeypatch):
    """Install a resolver that answers nothing until the test is over."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: over.wait(30))
    yield
    over.set()


def test_a_resolver_that_does_not_answer_holds_nobody(silent_resolver):
    with pytest.raises(socket.gaierror, match="no answer in time"):
        dial("fed.example.org", 8443, Deadline(0.2))


def test_a_name_is_looked_up(place):
    port = place["good"]("127.0.0.1")[4][1]
    dial("localhost", port, Deadline(5)).close()
    with pytest.raises(socket.gaierror):
        dial("no-such-host.invalid", port, Deadline(5))
