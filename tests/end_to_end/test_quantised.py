"""A deployment over mutual TLS whose three nodes hold one base in 4 bits, in bfloat16 and in float32."""

import re

import pytest

from tests.helpers.client.quantised import wide_base
from tests.helpers.end_to_end.command import call, end, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.simulations.runs import entries, records

DTYPES = dict(zip(NODES, ("nf4", "bfloat16", "float32"), strict=True))
pytestmark = pytest.mark.slow


def test_nodes_of_different_dtypes_train_one_base_together(tmp_path):
    project = Project(tmp_path, f"base.path={wide_base('bert')}", "lora.targets=all-linear")
    for name, dtype in DTYPES.items():
        ended = call("client", "--check", project.node_file(name, like=name, dtype=dtype))
        assert ended.status == 0, ended.err
    server = project.server()
    nodes = [
        start("client", project.node_file(name, like=name, dtype=dtype, save=True)) for name, dtype in DTYPES.items()
    ]
    ends = [end(process) for process in (server, *nodes)]
    assert [ended.status for ended in ends] == [0] * 4, ends
    rounds = records(project.run)
    assert len(rounds) == 4
    assert all([node["name"] for node in record["clients"]] == list(NODES) for record in rounds)
    assert all(node["status"] == "ok" for record in rounds for node in record["clients"])
    losses = [sum(node["loss_after"] for node in record["clients"]) for record in rounds]
    assert losses[-1] < losses[0] - 0.05
    assert rounds[-1]["aggregation_error"] < 1e-6
    assert len({entry["base"] for entry in entries(project.run) if "base" in entry}) == 1
    for name, dtype in DTYPES.items():  # Each holds the run's update over its own load.
        saved = project.shards / "nodes" / "runs" / name / "first"
        ended = call("merge", saved, tmp_path / f"merged-{name}")
        assert ended.status == 0, ended.err
        assert ("layers held in nf4" in ended.out) == (dtype == "nf4")
        assert re.search(r"mean \S+", ended.out)
