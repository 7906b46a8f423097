"""Row S11: a node that is connected and does not answer costs one deadline, not one for each question.

Round 1 has no grace: it waits until the deadline, which is short here; the nodes are threads that answer at once.
"""

import json
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event

import pytest

from client.network import step_reports
from client.reports import report_step
from tests.helpers.end_to_end.command import end
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.end_to_end.transport import until
from tests.helpers.server.exchange import NumpyNode

NODES = [NumpyNode("amy", 4), NumpyNode("bob", 8)]
ODD = NumpyNode("odd", 4)
DEADLINE, GRACE = 4.0, 1.0
WAITS = {"quorum": 2, "deadline": DEADLINE, "grace": GRACE}


class Slow:
    """What the odd node does instead of answering at once; counts what it is asked.

    Args:
        rounds: in which it is slow.
        kinds: of the questions to which it is slow.
        reports: how often it reports a step, each half a second after the one before, until it answers or is silent.
        answers: it does answer after its reports.
    """

    def __init__(self, rounds, kinds=("train", "evaluate"), reports=0, answers=False):
        self.rounds, self.kinds, self.reports, self.answers = rounds, kinds, reports, answers
        self.asked, self.end = Counter(), Event()

    def __call__(self, kind, asked, reply):
        number = asked.values.get("round")
        self.asked[kind, number] += 1
        if number in self.rounds and kind in self.kinds:
            for step in range(self.reports):
                self.end.wait(0.5)
                report_step(step + 1)
            if not self.answers:
                self.end.wait()
        return reply


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(step_reports, "PERIOD", 0.2)


@contextmanager
def running(project, odd):
    """Run two nodes and the odd one, until the server's end, which is yielded."""
    project.admit_new(node.name for node in [*NODES, ODD])
    with project.serving() as server, ExitStack() as nodes:
        together = partial(_answer_together, project)
        for node in NODES:
            nodes.callback(project.node(node, together).stop)
        nodes.callback(
            project.node(ODD, lambda kind, asked, reply: odd(kind, asked, together(kind, asked, reply))).stop
        )
        nodes.callback(odd.end.set)
        yield server


def _answer_together(project, kind, asked, reply):
    """Announce a node when all are connected, so that all are there in round 1."""
    if kind == "query":
        until(lambda: sum(line.endswith("is connected") for line in project.log) == len(NODES) + 1)
    return reply


def finished(tmp_path, odd, rounds=6, **top):
    """Return the project after its run, and the seconds of each round."""
    project = NumpyProject(tmp_path, rounds=rounds, **WAITS | top)
    with running(project, odd) as server:
        assert end(server).status == 0, project.log
    return project, [line["seconds"] for line in metrics(project)]


def metrics(project):
    return [json.loads(line) for line in (project.run / "metrics.jsonl").read_text().splitlines()]


def hashes(project):
    lines = (project.run / "journal" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["adapter_hash"] for line in lines]


def counted(project):
    """Return the names of the nodes whose updates count, by round."""
    return [sorted(c["name"] for c in line["clients"] if c["update"]) for line in metrics(project)[1:]]


def test_found_S11_a_node_that_never_answers_costs_one_deadline(tmp_path):
    never = Slow(range(1, 100))
    project, seconds = finished(tmp_path, never, rounds=7)
    assert counted(project) == [["amy", "bob"]] * 7
    assert seconds[1] >= DEADLINE  # round 1 waits: nothing is known of how long an answer takes
    assert all(each < DEADLINE for each in seconds[2:])
    said = [line for line in project.log if "odd is silent" in line]
    assert said == [
        f"node odd is silent: in round {number} it neither answered nor reported a step; it is asked again in round "
        f"{again}"
        for number, again in ((1, 3), (3, 6), (6, 11))
    ]
    # It was busy with the first question for ever, so the others are still on their way to it.
    assert never.asked == {("query", None): 1, ("evaluate", 0): 1, ("train", 1): 1}


@pytest.mark.slow
def test_found_S11_its_silence_changes_nothing_of_the_result(tmp_path):
    project, _ = finished(tmp_path / "odd", Slow(range(1, 100)), rounds=4)
    calm = NumpyProject(tmp_path / "calm", rounds=4, **WAITS)
    assert calm.whole_run(NODES).status == 0
    assert hashes(project)[1:] == hashes(calm)[1:]


def test_found_S11_a_node_that_reports_is_waited_for(tmp_path):
    slow = Slow({2, 3}, ("train",), reports=5, answers=True)
    project, seconds = finished(tmp_path, slow, rounds=3)
    assert counted(project) == [["amy", "bob", "odd"]] * 3
    assert min(seconds[2:]) >= 2 * GRACE
    assert not any("silent:" in line for line in project.log)


@pytest.mark.slow
def test_found_S11_the_same_node_without_reports_is_given_up(tmp_path):
    """The control: what keeps it in the round are its reports."""

    class Mute(Slow):
        def __call__(self, kind, asked, reply):
            if asked.values.get("round") == 2 and kind == "train":
                self.end.wait(2.5)
            return reply

    project, _ = finished(tmp_path, Mute(()), rounds=3)
    assert counted(project) == [["amy", "bob", "odd"], ["amy", "bob"], ["amy", "bob"]]


@pytest.mark.slow
def test_found_S11_reports_that_end_are_silence_from_then_on(tmp_path):
    project, seconds = finished(tmp_path, Slow({2}, ("train",), reports=2), rounds=3, deadline=60.0)
    assert counted(project) == [["amy", "bob", "odd"], ["amy", "bob"], ["amy", "bob"]]
    assert 1.0 + GRACE <= seconds[2] < 30


def test_found_S11_silence_in_an_evaluation_alone(tmp_path):
    project, seconds = finished(tmp_path, Slow({2}, ("evaluate",)), rounds=4, deadline=60.0)
    assert counted(project)[:2] == [["amy", "bob", "odd"]] * 2
    assert counted(project)[2] == ["amy", "bob"]
    assert all(each < 30 for each in seconds)
    assert {c["name"] for c in metrics(project)[2]["clients"] if c["loss_after"] is not None} == {"amy", "bob"}


@pytest.mark.slow
def test_found_S11_a_node_that_answers_again_is_asked_in_each_round(tmp_path):
    class Once(Slow):
        def __call__(self, kind, asked, reply):
            if asked.values.get("round") == 2 and kind == "train":
                time.sleep(GRACE + 0.5)
            else:
                time.sleep(0.3)  # so that the rounds leave it time to come back
            return reply

    project, _ = finished(tmp_path, Once(()), rounds=6)
    assert [("odd" in names) for names in counted(project)] == [True, False, False, True, True, True]


@pytest.mark.slow
def test_found_S11_where_too_few_others_are_there_it_is_asked_in_each_round(tmp_path):
    project, _ = finished(tmp_path, Slow({2}, ("train",), reports=5, answers=True), rounds=3, quorum=3)
    assert counted(project) == [["amy", "bob", "odd"]] * 3
