"""Step reports: seldom, never waited for, and none to a server that does not know them."""

import grpc
import pytest

from client.network import step_reports
from client.network.step_reports import PERIOD, StepReports
from client.reports import report_step, reporting
from common.protocol.channel import MAX_HELLO, StepReport


class Call:
    """A gRPC method whose calls run until `end`."""

    def __init__(self):
        self.sent, self.running, self.status = [], False, grpc.StatusCode.OK

    def future(self, request, timeout):
        self.sent.append(StepReport.from_json(request))
        self.running = True
        return self

    def done(self):
        return not self.running

    def code(self):
        return self.status

    def end(self, status=grpc.StatusCode.OK):
        self.running, self.status = False, status


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(step_reports.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def call():
    return Call()


@pytest.fixture
def reports(call, clock):
    made = StepReports(call)
    made.begin("message")
    return made


def test_short_work_is_not_reported(reports, call):
    for step in range(100):
        reports.report(step)
    assert call.sent == []


def test_long_work_is_reported_now_and_then(reports, call, clock):
    for step in range(40):
        clock[0] += PERIOD / 10
        reports.report(step)
        call.end()
    assert [report.message for report in call.sent] == ["message"] * len(call.sent)
    assert len(call.sent) in (3, 4)


def test_while_a_report_is_on_its_way_there_is_no_other(reports, call, clock):
    for step in range(5):
        clock[0] += PERIOD
        reports.report(step)
    assert call.sent == [StepReport("message", 0)]


def test_the_next_message_has_its_own(reports, call, clock):
    reports.begin("other")
    clock[0] += PERIOD
    reports.report(7)
    assert call.sent == [StepReport("other", 7)]


@pytest.mark.parametrize(("status", "more"), [(grpc.StatusCode.UNIMPLEMENTED, 0), (grpc.StatusCode.UNAVAILABLE, 3)])
def test_an_older_server_is_told_no_more(reports, call, clock, status, more):
    for step in range(4):
        clock[0] += PERIOD
        reports.report(step)
        call.end(status)
    assert len(call.sent) == 1 + more


def test_who_works_reports_to_whoever_listens():
    seen = []
    report_step(1)  # nobody does
    with reporting(seen.append):
        report_step(2)
        with reporting(lambda step: seen.append(-step)):
            report_step(3)
        report_step(4)
    report_step(5)
    assert seen == [2, -3, 4]


def test_a_report_is_read_as_it_was_written():
    assert StepReport.from_json(StepReport("id", 3).to_json()) == StepReport("id", 3)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{}", b'{"message": 1, "step": 1}', b'{"message": "a", "step": -1}', b"\xff",
        b'{"message": "a", "step": true}', b'{"message": "a", "step": 1.5}', b"[" * 3000,
        b'{"message": "%s", "step": 1}' % (b"a" * MAX_HELLO),
    ],
)  # fmt: skip
def test_anything_else_is_no_report(text):
    assert StepReport.from_json(text) is None
