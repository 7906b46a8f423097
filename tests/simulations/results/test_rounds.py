import tempfile
from pathlib import Path

import pytest

from server.rounds.log_line import adapter_hash
from simulations.recipe import read_recipe
from simulations.results.nodes import load_nodes
from simulations.results.rounds import train_rounds
from tests.helpers.end_to_end.command import TINY
from tests.helpers.simulations.runs import BRIEF, hashes, records, run_tiny

FEDSGD = "server.algorithm=fedsgd"


def trained(*settings, **kind):
    recipe = read_recipe(TINY, [*BRIEF, *settings])
    with tempfile.TemporaryDirectory() as folder:
        found, traffic = train_rounds(recipe, load_nodes(recipe, 5, **kind), Path(folder))
    return found.update, traffic


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("server.a=gaussian", "server.proximal=0.1"),
        ("server.algorithm=hetlora",),
        ("server.algorithm=fedlin", "server.mode=b"),
        (FEDSGD,),
        (FEDSGD, "server.mode=b", "server.hold=1", "server.norm_bound=1e-3"),
        ("server.wire=int8", "server.rank_change=4"),
        (FEDSGD, "server.wire=int8"),
        ("lora.head=lda",),
        (FEDSGD, "lora.head=means", "server.wire=bfloat16"),
    ],
)
def test_a_trial_ends_with_the_bits_of_a_simulation(tmp_path, settings):
    run = run_tiny(tmp_path, *BRIEF, *settings)
    adapter, traffic = trained(*settings)
    assert adapter_hash(adapter) == hashes(run)[-1]
    assert traffic.up == sum(record["bytes_up"] for record in records(run))


def test_another_rate_ends_with_other_bits():
    assert adapter_hash(trained(FEDSGD)[0]) != adapter_hash(trained(FEDSGD, "train.lr=2e-2")[0])


def test_pooled_training_reads_as_many_rows_as_all_clients_do():
    apart, pooled = trained(FEDSGD), trained(FEDSGD, "train.accumulate=4", pooled=True)
    assert pooled[1].rows == 2 * 3 * 4 * 16
    assert abs(apart[1].rows - pooled[1].rows) <= 4 * 2 * 3


def test_calibrated_clients_learn_something_else():
    assert adapter_hash(trained(calibrated=True)[0]) != adapter_hash(trained()[0])


def test_calibration_adds_the_logarithm_of_each_label_s_share():
    nodes = load_nodes(read_recipe(TINY, [*BRIEF]), 5, calibrated=True).nodes
    for node in nodes.values():
        prior, labels = node.train.objective.prior, [row.targets for row in node.train.rows]
        assert prior.exp().sum() == pytest.approx(1)
        assert prior.argmax() == max(set(labels), key=labels.count)
