"""The share that a node has in a sum is the one that is logged, signed and shown, and no node makes its own."""

import json

import pytest

from tests.helpers.end_to_end.adversarial_run import Disturbed
from tests.helpers.end_to_end.deployment import NODES
from tests.helpers.simulations.runs import records

pytestmark = pytest.mark.slow

RULES = {
    "increments": {},
    "fedlin": {"algorithm": "fedlin", "mode": "b"},
    "hetlora": {"algorithm": "hetlora"},
    "norm": {"weights": "norm"},
}


@pytest.fixture(scope="module", params=RULES)
def inflated(request, tmp_path_factory):
    """Return a run of three good nodes, and of one whose first B is a million times as large."""
    run = Disturbed(tmp_path_factory.mktemp(request.param), ["inflated"], RULES[request.param])
    run.run()
    return run


def test_shares_add_up_and_no_factors_buy_more_than_twice_an_equal_one(inflated):
    for record in records(inflated.project.run)[1:]:
        shares = {client["name"]: client["share"] for client in record["clients"]}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
        assert shares["inflated"] <= 2 / len(shares) + 1e-12


def test_each_receipt_has_the_share_of_the_log(inflated):
    project = inflated.project
    logged = [{c["name"]: (c["update"], c["share"]) for c in record["clients"]} for record in records(project.run)[1:]]
    for name in NODES:
        lines = (project.folder / name / f"{name}.receipts").read_text().splitlines()
        signed = [(receipt["blob_hash"], receipt["weight"]) for receipt in map(json.loads, lines)]
        assert signed == [each[name] for each in logged]


def test_the_sum_is_exact_at_those_shares(inflated):
    """HetLoRA's is inexact as it is, by padding; at the shares by examples, its error in round 1 would be above 0.9."""
    errors = [record["aggregation_error"] for record in records(inflated.project.run)[1:]]
    assert errors[0] < 0.5 if "hetlora" in str(inflated.project.folder) else max(errors) < 1e-6
