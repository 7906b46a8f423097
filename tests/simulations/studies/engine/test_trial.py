"""Trials on the tiny recipe: what is trained, on whose rows, and what is kept."""

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.errors import ConfigError, ModelError, RunError
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Trial
from simulations.studies.engine.trial import central_training, check_places, check_update, run_trial, sample_rows
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.own_weights import OwnWeights
from simulations.studies.methods.places import role_of
from simulations.studies.methods.prefix import Prefix
from tests.helpers.end_to_end.command import TINY
from tests.helpers.simulations.runs import BRIEF, run_tiny

SETTING = Setting(TINY, ("train.rounds=2", "train.steps=20"), 2)


def run(method, **own):
    return run_trial(SETTING, Trial(Arm("it", method, (0.03,), **own), 0.03, 1))


def test_central_training_has_one_course_of_as_many_steps_as_a_client_makes():
    training = central_training(SETTING.recipe())
    assert len(training.learning_rates) == 40
    assert training.learning_rates[-1] < training.learning_rates[5]


def test_test_and_validation_rows_are_held_out_beside_each_other():
    nodes = SETTING.nodes()
    assert (len(nodes.test), len(nodes.valid)) == (80, 20)
    assert len(SETTING.nodes(settings=("data.test_rows=8",)).test) == 8


def test_a_trial_repeats_to_the_bit_and_learns():
    one, again = run(LowRank(4), keeps=True), run(LowRank(4), keeps=True)
    assert (one.right, one.loss) == (again.right, again.loss)
    assert one.loss < np.log(4)
    assert one.parameters == 4 * sum(sum(shape) for shape in one.update.shapes.values())


def test_the_update_of_full_fine_tuning_is_the_difference_of_its_weights():
    outcome = run(OwnWeights(), keeps=True)
    base = SETTING.base.model
    assert {name.rpartition(".")[2] for name in outcome.update} == {"query", "key", "value", "dense"}
    for name, factors in outcome.update.items():
        assert factors.shape == tuple(base.get_submodule(name).weight.shape)
        assert np.abs(factors.b @ factors.a).max() > 0


def test_few_rows_and_one_client_are_others_than_all():
    losses = [run(LowRank(4), **own).loss for own in ({}, {"rows": 8}, {"of": 0}, {"of": 1})]
    assert len(set(losses)) == 4


@pytest.mark.parametrize("roles", [("key",), ("query", "output")])
def test_a_federation_trains_the_projections_of_the_arm(roles):
    outcome = run(LowRank(2, roles), of="federation", keeps=True)
    assert {role_of(name) for name in outcome.update} == {*roles}
    assert outcome.parameters == 2 * sum(sum(shape) for shape in outcome.update.shapes.values())


def test_an_arm_with_targets_of_its_own_keeps_them():
    outcome = run(LowRank(2), of="federation", keeps=True, settings=('lora.targets=["key"]',))
    assert {role_of(name) for name in outcome.update} == {"key"}


def test_what_does_not_fit_the_positions_is_named_before_anything_is_trained():
    positions = SETTING.base.positions
    with pytest.raises(ModelError, match=rf"long inserts {positions} tokens into rows of .* positions; set"):
        check_places(SETTING, [Arm("long", Prefix(positions - 4, 4), (0.1,))])
    check_places(SETTING, [Arm("short", Prefix(2), (0.1,))])  # control


def test_few_rows_are_drawn_from_all_clients_where_the_first_are_of_one():
    node = SETTING.nodes(settings=("clients.partition=dirichlet", "clients.beta=0.05")).nodes["pool"]
    drawn = {seed: sample_rows(node.train, 40, seed) for seed in (1, 2)}
    shares = [np.bincount([row.targets for row in rows], minlength=4) for rows in (node.train.rows[:40], drawn[1].rows)]
    assert np.count_nonzero(shares[0] > 4) < 4 == np.count_nonzero(shares[1] > 4)
    assert [row.ids.tolist() for row in drawn[1].rows] != [row.ids.tolist() for row in drawn[2].rows]


def test_a_larger_sample_has_the_rows_of_a_smaller_one():
    rows = next(iter(SETTING.nodes().nodes.values())).train
    small, large = ({id(row) for row in sample_rows(rows, count, 1).rows} for count in (8, 30))
    assert small < large
    assert list(sample_rows(rows, len(rows) + 9, 1).rows) == list(rows.rows)


def test_a_federation_trains_by_the_recipes_rule_at_the_arms_rank():
    outcome = run(LowRank(2), of="federation", keeps=True)
    assert outcome.training_loss is None
    assert all(f.rank <= 8 for f in outcome.update.values())  # rank_global is four times that of a client
    assert not any("classifier" in name for name in outcome.update)


@pytest.mark.parametrize(
    ("factors", "reason"),
    [
        (Factors(np.full((1, 3), np.nan), np.ones((2, 1))), "diverged; set a lower train.lr"),
        (Factors(np.ones((1, 3)), np.zeros((2, 1))), "has moved nothing; train longer"),
    ],
)
def test_an_update_that_cannot_be_measured_is_told(factors, reason):
    trial = Trial(Arm("it", LowRank(1), (1.0,), keeps=True), 1.0, 1)
    check_update(trial, Adapter({"q": Factors(np.ones((1, 3)), np.ones((2, 1)))}))  # control
    with pytest.raises(RunError, match=reason):
        check_update(trial, Adapter({"q": factors}))


@pytest.mark.parametrize(("algorithm", "course"), [("increments", (1, 12)), ("fedsgd", (12, 1))])
def test_a_quick_study_makes_as_many_steps_under_each_algorithm(algorithm, course):
    train = Setting(TINY, (f"server.algorithm={algorithm}",), 2, quick=True).recipe().train
    assert (train.rounds, train.steps) == course


def test_only_adapters_are_federated_and_a_client_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="is trained centrally: what leaves a node of a federation is A and B"):
        run(OwnWeights(), of="federation")
    with pytest.raises(ConfigError, match=r"count = 4: the study trains client 10; set count to 10 or more"):
        run(LowRank(2), of=9)


def test_a_recipe_without_test_rows_is_refused_with_the_key():
    with pytest.raises(ConfigError, match=r"\[data\] test_rows = 0, and a study measures on test rows"):
        Setting(TINY, ("data.test_rows=0",), 1).recipe()


def test_a_recipe_that_begins_at_an_adapter_is_refused_with_the_key(tmp_path):
    """Nothing of it would be in what the trials train."""
    begun = f"base.adapter={run_tiny(tmp_path, *BRIEF) / 'adapter'}"
    with pytest.raises(ConfigError, match=r"\[base\] adapter = .*, and the methods of a study all begin at the base"):
        Setting(TINY, (begun,), 1).recipe()
