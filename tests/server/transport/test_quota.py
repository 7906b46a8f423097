import pytest

from common.errors import TransportError
from server.transport import quota
from server.transport.quota import NodeQuota, TrafficMeter


@pytest.fixture
def clock(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(quota.time, "monotonic", lambda: clock[0])
    return clock


def calls_taken(meter: TrafficMeter) -> int:
    taken = 0
    while taken < 1000:
        try:
            meter.call()
        except TransportError:
            break
        taken += 1
    return taken


def test_as_many_calls_as_a_second_has_may_come_at_once(clock):
    meter = TrafficMeter(NodeQuota(calls=10))
    assert calls_taken(meter) == 10
    clock[0] += 0.55
    assert calls_taken(meter) == 5
    clock[0] += 3600
    assert calls_taken(meter) == 10


def test_a_call_that_is_refused_does_not_prolong_the_wait(clock):
    meter = TrafficMeter(NodeQuota(calls=10))
    for _ in range(100):
        calls_taken(meter)
    clock[0] += 0.15
    assert calls_taken(meter) == 1


def test_bytes_count_by_round():
    meter = TrafficMeter(NodeQuota(round=100))
    meter.begin("1")
    meter.receive(100)
    meter.begin("1")
    with pytest.raises(TransportError, match="one round"):
        meter.receive(1)
    meter.begin("2")
    meter.receive(100)
    assert meter.received == 201
    assert meter.seen > 0
