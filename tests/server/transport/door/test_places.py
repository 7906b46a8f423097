"""Who may stay at the door: shares by certificate and by address, and time-outs."""

import logging
from ipaddress import ip_address

import pytest

from server.transport.door import places
from server.transport.door.places import FIRST_CALL, IDLE, OF_ONE_NODE, Door
from server.transport.door.refusals import RefusalLog
from server.transport.door.sockets import Address, OpenSocket

PORT, PLACES = 4711, 80
TOGETHER, OF_ADDRESS = PLACES // 2, PLACES // 4


class Street:
    """Connections as the system would list them, and a clock."""

    def __init__(self, monkeypatch):
        self.now, self.open = 0.0, {}
        self._number, self._calls = 10, []
        monkeypatch.setattr(places, "open_sockets", lambda port, before: dict(self.open))
        monkeypatch.setattr(places, "shut", lambda number, address, port: self.open.pop(number))
        self.door = Door(PLACES, RefusalLog(lambda: self.now), lambda: self.now)

    def come(self, host="10.0.0.1", count=1):
        """Open connections; return the ports of their peers."""
        ports = range(self._number, self._number + count)
        for port in ports:
            self.open[port] = OpenSocket(port, Address(ip_address(host), port))
        self._number += count
        return list(ports)

    def look(self, after=0.0):
        """Let this many seconds pass, and return the ports that may stay."""
        self.now += after
        self.door.look(PORT)
        return list(self.open)

    def call(self, port, node="eve", host="10.0.0.1", stream=False):
        """Begin a call of a node; return it."""
        visit = self.door.visit(f"ipv4:{host}:{port}", node, stream)
        visit.__enter__()
        self._calls.append(visit)  # it would end if it were forgotten
        return visit


@pytest.fixture
def street(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    return Street(monkeypatch)


def test_an_address_has_its_share_and_the_newest_stay(street, caplog):
    came = street.come(count=PLACES)
    assert street.look() == came[-OF_ADDRESS:]
    assert caplog.messages == [
        f"10.0.0.1 holds {PLACES} connections: {PLACES - OF_ADDRESS} closed, "
        "more than the share of one that has shown no certificate"
    ]


def test_many_addresses_together_leave_half_of_the_places(street):
    for number in range(1, 9):
        street.come(f"10.0.0.{number}", OF_ADDRESS)
    assert len(street.look()) <= TOGETHER
    assert street.door.is_pressed


def test_addresses_that_hammer_keep_no_other_out(street):
    (other,) = street.come("10.9.9.9")
    for number in range(1, 9):
        street.come(f"10.0.0.{number}", OF_ADDRESS)
    assert other in street.look()


def test_a_node_behind_the_address_of_a_crowd_keeps_its_connection(street):
    (node,) = street.come()
    street.call(node, "ada", stream=True)
    street.come(count=PLACES)
    assert node in street.look()
    assert node in street.look(after=10 * IDLE)


@pytest.mark.parametrize("host", ["2001:db8::", "2001:db8:0:0:ffff::"])
def test_the_addresses_of_one_ipv6_network_are_one(host, street):
    for number in range(1, PLACES):
        street.come(f"{host}{number:x}")
    assert len(street.look()) == OF_ADDRESS


def test_who_does_not_call_in_time_is_closed(street, caplog):
    came = street.come(count=3)
    assert street.look() == came
    assert street.look(after=FIRST_CALL - 1) == came
    assert street.look(after=1) == []
    assert caplog.messages == ["10.0.0.1 holds 3 connections: 3 closed, without a call of an admitted node in 15 s"]


def test_a_certificate_has_its_share_and_its_stream_stays(street, caplog):
    came = street.come(count=20)
    street.call(came[0], stream=True)
    for port in came[1:]:
        street.call(port).__exit__(None, None, None)
    assert street.look() == [came[0], *came[-OF_ONE_NODE + 1 :]]
    assert caplog.messages == ["node eve holds 20 connections: 16 closed, more than 4 of one certificate"]


def test_another_node_has_a_share_of_its_own(street):
    first, second = street.come(count=OF_ONE_NODE), street.come(count=OF_ONE_NODE)
    for port in first:
        street.call(port, "ada")
    for port in second:
        street.call(port, "bob")
    assert street.look() == first + second


def test_a_connection_without_a_call_is_closed_after_some_time(street):
    (port,) = street.come()
    visit = street.call(port)
    assert street.look(after=10 * IDLE) == [port]
    visit.__exit__(None, None, None)
    assert street.look(after=IDLE - 1) == [port]
    assert street.look(after=1) == []


def test_a_later_connection_of_the_same_port_shows_its_own_certificate(street):
    (port,) = street.come()
    street.call(port).__exit__(None, None, None)
    street.look()
    del street.open[port]
    street.look()
    street.open[port] = OpenSocket(999, Address(ip_address("10.0.0.1"), port))
    assert street.look(after=1) == [port]
    assert street.look(after=FIRST_CALL) == []


def test_a_crowd_that_comes_again_and_again_has_one_line_a_minute(street, caplog):
    for _ in range(610):
        street.come(count=PLACES)
        street.look(after=0.1)
        street.door._said.sum_up()
    assert len(caplog.messages) == 2
    assert "10.0.0.1 opened" in caplog.messages[1]


def test_a_calm_door_is_not_pressed(street):
    street.come()
    street.look()
    assert not street.door.is_pressed
