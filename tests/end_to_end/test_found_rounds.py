"""Found by attack: a server whose rounds do not follow is refused by policy, and no step is done for it."""

import json
import logging
from contextlib import contextmanager
from dataclasses import replace

import pytest

from common.identity.keys.private_keys import new_signing_key
from tests.helpers.client.nodes import write_node
from tests.helpers.end_to_end.command import start
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.end_to_end.rogue_server import RUN, RogueServer, by_hash
from tests.helpers.end_to_end.transport import until
from tests.helpers.server.exchange import NumpyNode

OTHER = "cd" * 32


class Watched:
    """A node in a thread, and what it trained and said."""

    def __init__(self, project, caplog):
        self.project, self.caplog, self.asked, self.update = project, caplog, [], ""
        project.admit_new(["ada"])
        self.start()

    def start(self):
        self.running = self.project.node(NumpyNode("ada", 4), self._count)

    def _count(self, kind, asked, reply):
        if kind != "query":
            self.asked.append((kind, asked.values["round"]))
        if kind == "train":
            self.update = reply.blob_hash
        return reply

    @property
    def said(self):
        """Return what the node's own modules logged, above information."""
        records = self.caplog.records
        return [
            r.getMessage() for r in records if r.name.startswith("client.") and "trying again" not in r.getMessage()
        ]


@pytest.fixture
def node(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    node = Watched(NumpyProject(tmp_path), caplog)
    yield node
    node.running.stop()


@contextmanager
def serving(node, *told):
    """Yield a server that has told the node of these rounds."""
    with RogueServer(node.project) as server:
        server.tell(*(server.line(number) for number in told))
        yield server


def test_found_S21_an_honest_servers_rounds_are_trained_in_silence(node):
    """The control: attempts, phases, measurements and restarts of the server."""
    with RogueServer(node.project) as server:
        assert server.evaluate(0) == "measured"
        line = server.line(0)
        for number in (1, 2, 3):
            server.tell(line)
            for attempt, phase in ((1, 1), (2, 1), (2, 2), (3, 1)):
                assert server.train(number, attempt=attempt, phase=phase) == "trained"
            before, line = line, server.receipt(number, node.update)
            assert server.evaluate(number) == "measured"
    with RogueServer(node.project, before) as server:  # It was killed before the commit of round 3,
        assert server.train(3) == "trained"
        line = server.receipt(3, node.update)
    with RogueServer(node.project, line) as server:  # and after it.
        assert server.train(4) == "trained"
    assert node.said == []


def test_found_S21_what_a_node_was_told_of_its_update_is_signed_with_the_clip_factor(node):
    node.caplog.set_level(logging.INFO)
    with serving(node, 0) as server:
        assert server.train(1) == "trained"
        server.tell(server.receipt(1, node.update, clip=0.031))
        assert server.train(2) == "trained"
        server.tell(replace(server.receipt(2, node.update, clip=0.031), clip=1.0))
        assert server.train(3) == "trained"
    assert "round 1: the update counts with weight 0.25, clipped to 0.031 of its length" in node.said
    assert "round 2: the receipt for this node's update is not signed by the server's key" in node.said
    (kept,) = node.project.folder.joinpath("nodes", "ada.receipts").read_text().splitlines()
    assert json.loads(kept)["clip"] == 0.031


@pytest.mark.parametrize(
    ("number", "more", "said"),
    [
        (8, {}, "round 8 is requested, but after round 2 comes round 3"),
        (8, {"parent": 2}, "round 8 is requested, but after round 2 comes round 3"),
        (1, {}, "round 1 is requested, but after round 2 comes round 3"),
        (2, {}, "round 2 is requested, but after round 2 comes round 3"),
        (2, {"parent": 7}, "round 2 is requested, but after round 2 comes round 3"),
        (3, {"parent": 7}, "round 3 starts from adapter"),
        (3, {"parent": 1}, "round 3 starts from adapter"),
        (3, {"parent": 7, "kind": "train.default"}, "round 3 starts from adapter"),
        (8, {"kind": "train.default"}, "round 8 is requested"),
        (1, {"run": OTHER}, f"run {OTHER[:12]} was requested or told, in a connection to run {RUN[:12]}"),
    ],
)
def test_found_S21_a_request_that_does_not_follow_is_refused(node, number, more, said):
    with serving(node, 0, 1, 2) as server:
        for _ in range(2):
            assert server.train(number, **more) == "policy"
        assert node.asked == []
        assert [said in each for each in node.said] == [True, True]
        assert "policy" in node.said[0]
        assert server.train(3) == "trained"  # The node is still there.
        assert node.asked == [("train", 3)]


def test_found_S21_nothing_is_done_for_a_run_of_which_nothing_was_told(node):
    with RogueServer(node.project) as server:
        assert server.train(1) == "policy"
        assert server.train(1, run=OTHER) == "policy"
        assert server.evaluate(1) == "policy"
        server.tell(server.line(0))
        assert server.train(1) == "trained"


def test_found_S21_what_is_measured_follows_too(node):
    with serving(node, 0, 1, 2) as server:
        assert [server.evaluate(number) for number in (0, 1, 4, 8)] == ["policy"] * 4
        assert server.evaluate(2, adapter=7) == "policy"
        assert node.asked == []
        assert server.evaluate(2) == server.evaluate(3) == "measured"


@pytest.mark.parametrize(
    ("number", "more"),
    [(8, {}), (4, {}), (1, {}), (0, {}), (2, {"adapter": "00"}), (2, {"parent": "00"}), (3, {"parent": "00"})],
)
def test_found_S21_a_notice_that_contradicts_what_was_told_is_not_followed(node, number, more):
    with serving(node, 0, 1, 2) as server:
        server.tell(server.line(number, **more))
        if number != 2:
            assert server.train(number + 1) == "policy"
        assert "the server contradicts itself: " in node.said[0]
        assert server.train(3) == "trained"
        assert node.asked == [("train", 3)]


def test_found_S21_a_jump_behind_a_new_connection_is_said(node):
    with serving(node, 0, 1, 2) as server:
        assert server.train(3) == "trained"
    with RogueServer(node.project, server.line(8)) as server:
        assert server.train(9) == "trained"
        assert any("told of round 2 last, and now of round 8" in each for each in node.said)
        server.tell(server.line(12))
        assert server.train(13) == "policy"


@pytest.mark.parametrize("between", ["a connection", "another run", "a start of the node"])
def test_found_S21_a_server_that_goes_back_is_refused_whatever_comes_between(node, between):
    with serving(node, *range(5)) as server:
        assert server.train(5) == "trained"
    if between == "another run":
        with RogueServer(node.project, server.line(0, run=OTHER)) as other:
            assert other.train(1, run=OTHER) == "trained"
    if between == "a start of the node":
        node.running.stop()
        node.start()
    node.asked.clear()
    with RogueServer(node.project, server.line(1)) as server:
        assert server.train(2) == server.evaluate(1) == "policy"
        assert any("the server tells of round 1 after round 4" in each for each in node.said)
        assert node.asked == []
    with RogueServer(node.project, server.line(4)) as server:
        assert server.train(5) == "trained"


def forged(server):
    """Return a return that another key than the server's signed."""
    server._own = server._own.__class__(**vars(server._own) | {"receipt_key": new_signing_key()})
    return server.signed_return(2)


BACK = {
    "unsigned": (lambda server: {"returned": ""}, "tells of round 2 after round 4"),
    "no hex": (lambda server: {"returned": "x"}, "No return to a round that this node was told of is signed"),
    "another key": (lambda server: {"returned": forged(server)}, "No return to a round that this node was told of"),
    "another round": (lambda server: {"returned": server.signed_return(3)}, "No return to a round that this node"),
    "another adapter": (
        lambda server: {"returned": server.signed_return(2, adapter=7), "adapter": server.hash(7)},
        "to an adapter that this node was not told of",
    ),
    "the old adapter, and another": (
        lambda server: {"returned": server.signed_return(2), "adapter": server.hash(7)},
        "round 2 led from adapter",
    ),
}


@pytest.mark.parametrize("what", BACK)
def test_found_S21_another_return_than_a_true_one_is_not_followed(node, what):
    make, said = BACK[what]
    with serving(node, *range(5)) as server:
        line = server.line(2, **make(server))
    for _ in range(2):
        with RogueServer(node.project, line) as server:
            assert server.train(3) == "policy"
            assert server.train(3, parent=7) == "policy"
            assert said in [each for each in node.said if "contradicts itself" in each][-1]
            assert node.asked == []
            assert server.train(5) == "trained"
            node.asked.clear()


def test_found_S21_a_return_to_an_adapter_that_was_never_told_is_not_followed(node):
    with serving(node, 0, 1):
        pass
    with RogueServer(node.project) as server:
        server.tell(server.line(8))
        assert server.train(9) == "trained"
        server.tell(server.line(5, returned=server.signed_return(5)))
        assert server.train(6) == "policy"
        assert "to an adapter that this node was not told of" in node.said[-2]


def test_found_S21_a_true_return_is_followed(node):
    """By a node that was there, and by one that comes when a round has been committed since."""
    with serving(node, *range(5)) as server:
        assert server.train(5) == "trained"
        returned = server.signed_return(2)
    with RogueServer(node.project, server.line(2, returned=returned)) as server:
        assert server.train(5) == "policy"
        assert server.train(3) == "trained"
        assert "the run goes back from round 4 to round 2, as its server signed" in node.said
        server.tell(server.line(3, adapter=server.hash(7)))
        assert server.train(4) == "policy"  # The parent is the new round 3.
        assert server.train(4, parent=7) == "trained"
        server.tell(*(server.line(4, parent=server.hash(7), adapter=server.hash(4)), server.line(5)))
        assert server.train(6) == "trained"
        line = server.line(3, adapter=server.hash(8), returned=returned)
    with RogueServer(node.project, line) as server:
        assert server.train(4) == "policy"
        assert server.train(4, parent=8) == "trained"


def test_found_S21_a_node_that_obeys_nothing_any_more_is_freed_by_its_owner(node):
    with serving(node, *range(5)):
        pass
    node.running.stop()
    node.project.folder.joinpath("nodes", "ada.rounds").unlink()
    node.start()
    with RogueServer(node.project) as server:
        server.tell(server.line(1))
        assert server.train(2) == "trained"


@pytest.mark.slow
def test_found_S21_a_real_node_takes_no_step_for_other_factors_than_the_round_names(tmp_path):
    """Nor for rounds that do not follow; the node is a process of `fedlora client`."""
    project = NumpyProject(tmp_path)
    project.admit("clinic")
    keys = {"server": f"localhost:{project.port}", "keys": str(tmp_path / "nodes")}
    file = write_node(tmp_path / "clinic", **keys)
    log = tmp_path / "clinic.log"
    with log.open("w") as errors:
        process = start("client", file, log=errors)
    try:
        with RogueServer(project) as server:
            server.learn()
            assert server.evaluate(0) == "measured"
            assert server.evaluate(0, sent=server.adapter(7)) == "policy"
            server.tell(*(server.line(number) for number in (0, 1, 2)))
            assert server.train(8) == server.train(1) == server.train(3, parent=7) == "policy"
            assert server.train(3, sent=server.adapter(7)) == "policy"
            # The factors of round 7 are held from before, and named by their hash.
            assert server.train(3, sent=by_hash(server.adapter(7))) == "policy"
            assert "steps at rank" not in log.read_text()
            assert server.train(3) == "trained"
            assert server.train(3, sent=by_hash(server.adapter(2))) == "trained"
            assert server.train(3, sent=by_hash(server.adapter(5))) == "missing"
        until(lambda: "is lost" in log.read_text())
    finally:
        process.kill()
        process.wait()
    said = log.read_text()
    assert said.count("round 3: 2 steps at rank 2") == 2
    assert said.count("the frozen factors have SHA-256") == 3
    assert "round 8 is requested, but after round 2 comes round 3" in said
