from functools import partial

import pytest

from simulations.bench.measure import GateError
from simulations.bench.transport import strangers
from simulations.bench.transport.deployment import make_project, serve_grid
from simulations.bench.transport.sockets import client_hello, tls_socket
from simulations.bench.transport.strangers import MEMBER, OTHER, _row


@pytest.fixture
def projects(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    make_project(ours, strangers.NODES)
    make_project(theirs, [OTHER])
    return ours, theirs


def test_one_who_gets_a_byte_is_no_stranger(projects):
    ours, _ = projects
    with serve_grid(ours, ours) as grid, pytest.raises(GateError, match=r"a stranger .* got [1-9]"):
        _row("a member", partial(tls_socket, grid.port, ours, MEMBER), 1, 100)


def test_where_a_member_gets_nothing_the_count_says_nothing(projects):
    ours, _ = projects
    with serve_grid(ours, ours) as grid, pytest.raises(GateError, match="a member got 0"):
        _row("nobody", partial(tls_socket, grid.port), 1, 0)


def test_a_hello_is_a_handshake_of_tls():
    hello = client_hello()
    assert hello[:2] == b"\x16\x03"
    assert int.from_bytes(hello[3:5]) == len(hello) - 5


@pytest.mark.slow
def test_each_stranger_sends_all_gets_nothing_and_costs_the_server_little():
    rows = strangers.measure()
    assert len(rows) == 3
    assert all("sent 200 MiB and got 0 bytes" in row.gate for row in rows)
    assert all(row.holds and row.ours < strangers.BOUND for row in rows)
