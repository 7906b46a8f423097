"""A node whose owner allows no terms or gradients declines them before it trains, and the run goes on without it."""

import pytest

from tests.helpers.end_to_end.adversarial_run import Disturbed
from tests.helpers.end_to_end.command import end, start
from tests.helpers.end_to_end.deployment import NODES
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import records

pytestmark = pytest.mark.slow

GRADIENTS = {"fedlin": {"algorithm": "fedlin", "mode": "b"}, "fedsgd": {"algorithm": "fedsgd"}}


def run_with_strict(folder, server, **policy):
    """Return the records of a node of this policy in each round, and the logs of the server and of the node."""
    run = Disturbed(folder, [], server)
    run.project.admit("strict")
    log = folder / "log"
    processes = [run.project.server(log.open("w"))]
    try:
        processes.append(start("client", run.project.node_file("strict", policy=policy)))
        until(lambda: "node strict is connected" in log.read_text(), seconds=120)
        processes += run.project.clients()
        ends = [end(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [ended.status for ended in ends] == [0] * (2 + len(NODES)), (log.read_text(), ends)
    asked = [{c["name"]: c for c in record["clients"]} for record in records(run.project.run)[1:]]
    assert all(clients[name]["status"] == "ok" for clients in asked for name in NODES)
    return [clients["strict"] for clients in asked if "strict" in clients], log.read_text(), ends[1].err


def test_a_term_is_declined_by_name_and_nothing_is_sent(tmp_path):
    declined, _, strict = run_with_strict(tmp_path, {"proximal": 0.1}, terms=[])
    assert declined
    assert all((c["reason"], c["bytes_up"], c["share"]) == ("policy", 0, 0.0) for c in declined)
    assert "[policy] terms = [], requested is 'proximal'" in strict


@pytest.mark.parametrize("rule", GRADIENTS)
def test_a_node_that_sends_no_gradients_is_named_before_the_first_round(rule, tmp_path):
    declined, server, strict = run_with_strict(tmp_path, GRADIENTS[rule], gradients=False)
    assert declined
    assert all((c["reason"], c["bytes_up"], c["share"]) == ("policy", 0, 0.0) for c in declined)
    named = server.index("node strict is refused: policy (its owner lets no gradient leave")
    assert named < server.index("round 1: 3 nodes train")
    assert "[policy] gradients = false, requested is a gradient" in strict
    assert "batches for a gradient" not in strict
