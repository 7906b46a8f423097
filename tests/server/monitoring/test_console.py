"""The log names the nodes whose updates were clipped or are another's, and is silent about all others."""

import logging

from server.monitoring.console import ConsoleLog, Sparing
from tests.helpers.server.exchange import MemoryExchange, NumpyNode
from tests.helpers.server.runs import fresh, plan, run
from tests.helpers.server.spoilt_nodes import CopyingNode, SpoilingNode, larger_b


def warnings(folder, nodes, caplog):
    with caplog.at_level(logging.WARNING, "server"):
        run(folder, nodes, plan(1), ConsoleLog(logging.getLogger("server")))
    return [record.getMessage() for record in caplog.records]


def test_clipped_and_identical_updates_are_named(tmp_path, caplog):
    eve, dan = SpoilingNode("eve", 4, change=larger_b(1e30)), CopyingNode("dan", 4, of="ada")
    lines = warnings(tmp_path, MemoryExchange([NumpyNode("ada", 4), NumpyNode("bob", 2), eve, dan]), caplog)
    assert len(lines) == 3
    assert lines[:2] == ["ada: sent the same update as dan", "dan: sent the same update as ada"]
    assert lines[2].startswith("eve: clipped to ")
    assert "of its norm" in lines[2]


def test_an_honest_round_warns_of_nothing(tmp_path, caplog):
    assert warnings(tmp_path, fresh(), caplog) == []


def test_a_committed_round_has_its_numbers(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "server"):
        entries = run(tmp_path, fresh(), plan(1), ConsoleLog(logging.getLogger("server")))
    first, second = (each for each in caplog.records if getattr(each, "event", "") == "round-committed")
    numbers = entries[1]["metrics"]
    assert (
        f"aggregation error {numbers['aggregation_error']:.1e}, agreement {numbers['agreement']:.2f}, "
        in second.getMessage()
    )
    assert second.fields == {key: numbers[key] for key in ("round", "seconds", "aggregation_error", "agreement")}
    assert (first.fields["agreement"], "agreement" in first.getMessage()) == (None, False)


def test_a_node_that_comes_and_goes_all_the_time_does_not_fill_the_log(caplog):
    console, now = ConsoleLog(logging.getLogger("server")), [0.0]
    console._sparing = Sparing(most=10, clock=lambda: now[0])
    with caplog.at_level(logging.INFO, "server"):
        for _ in range(1000):
            console.on_waiting({"ada": "ready", "eve": "ready"}, 3)
            console.on_waiting({"ada": "ready"}, 3)
        assert len([line for line in caplog.messages if "node eve" in line]) == 10
        assert len([line for line in caplog.messages if "waiting for" in line]) == 10
        assert "node ada is ready" in caplog.messages
        now[0] += 60.0
        console.on_nodes({"ada": "ready", "eve": "refused: rows"})
    assert caplog.messages[-1].startswith("node eve is refused: rows")
