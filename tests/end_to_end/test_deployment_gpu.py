"""A deployment whose nodes train on CUDA learns, and ends with the update of one whose nodes train on the CPU."""

import pytest
import torch

from common.adapters import lowrank
from server.storage.journal import Journal
from tests.helpers.end_to_end.deployment import Project
from tests.helpers.simulations.runs import records

pytestmark = pytest.mark.gpu


def update_of(run):
    with Journal.open(run / "journal") as journal:
        return journal.last_state().parts["mass"]


def gap(update, other):
    """||dW - dW'|| / ||dW'|| over all modules."""
    between = [lowrank.stack([(1.0, update[name]), (-1.0, factors)]) for name, factors in other.items()]
    return lowrank.total_norm(between) / lowrank.total_norm(other.values())


def test_nodes_on_cuda_end_with_the_update_of_nodes_on_the_cpu(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    runs = []
    for device in ("cuda", "cpu"):
        project = Project(tmp_path / device)
        ends = project.whole_run(device=device)
        assert [ended.status for ended in ends] == [0] * 4, ends
        losses = [sum(node["loss_after"] for node in record["clients"]) for record in records(project.run)]
        assert losses[-1] < losses[0] - 0.05
        runs.append(project.run)
    update, expected = map(update_of, runs)
    assert 0 < gap(update, expected) < 1e-3  # not 0: the device is another
