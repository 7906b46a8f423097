"""A node whose owner allows no terms declines them before it trains, and the run goes on without it."""

import pytest

from tests.helpers.end_to_end.adversarial_run import Disturbed
from tests.helpers.end_to_end.command import end, start
from tests.helpers.end_to_end.deployment import NODES
from tests.helpers.simulations.runs import records

pytestmark = pytest.mark.slow

ASKED = {
    "proximal": {"proximal": 0.1},
    "gradient": {"algorithm": "fedlin", "mode": "b"},
}
"""The name of the term that the node is first asked for, and the server's settings that ask for it."""


@pytest.mark.parametrize("name", ASKED)
def test_a_term_is_declined_by_name_and_nothing_is_sent(name, tmp_path):
    run = Disturbed(tmp_path, [], ASKED[name])
    run.project.admit("strict")
    strict = run.project.node_file("strict", policy={"terms": []})
    server, nodes = run.project.server(), run.project.clients()
    nodes.append(start("client", strict))
    ends = [end(process) for process in (server, *nodes)]
    assert [ended.status for ended in ends] == [0] * (2 + len(NODES)), ends
    asked = [{c["name"]: c for c in record["clients"]} for record in records(run.project.run)[1:]]
    declined = [clients["strict"] for clients in asked if "strict" in clients]
    assert declined
    assert all((c["reason"], c["bytes_up"], c["share"]) == ("policy", 0, 0.0) for c in declined)
    assert f"[policy] terms = [], requested is '{name}'" in ends[-1].err
    assert "batches for a gradient" not in ends[-1].err
    assert all(clients[name]["status"] == "ok" for clients in asked for name in NODES)
