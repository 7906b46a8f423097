"""A verdict is one only where intervals over seeds decide: held, not held, and left open."""

from pathlib import Path

import numpy as np
import pytest

from simulations.studies.claims import amplification, latency
from simulations.studies.claims.accuracy import baselines, budget, parameters, placement, rank
from simulations.studies.engine.estimate import Estimate, estimate
from simulations.studies.engine.outcomes import Outcome
from simulations.studies.engine.setting import Setting
from tests.helpers.common.models import random_adapter
from tests.helpers.end_to_end.command import TINY

SETTING = Setting(Path(TINY), (), 3)
HIGH, LOW, MIXED = (0.8, 0.81, 0.79), (0.6, 0.61, 0.59), (0.5, 0.9, 0.7)
"""Accuracies of three seeds."""


def outcomes(accuracies, arm="arm", parameters=10):
    bits = [("1" * round(1000 * share)).ljust(1000, "0") for share in accuracies]
    return [Outcome(arm, 0.01, seed, parameters, each, 0.1, each, 0.1, 0.1, 1.0) for seed, each in enumerate(bits, 1)]


@pytest.mark.parametrize(("planned", "held"), [(HIGH, True), (LOW, False), (MIXED, None)])
def test_a_budget_beats_uniform_ranks_only_clearly(planned, held):
    uniform = (0.7, 0.71, 0.69)
    found = {budget.UNIFORM: outcomes(uniform), budget.PLANNED: outcomes(planned), budget.WITHIN: outcomes(uniform)}
    assert budget.STUDY.conclude(SETTING, found).held is held


@pytest.mark.parametrize(("lora", "held"), [(HIGH, True), (LOW, False), (MIXED, None)])
def test_on_a_par_is_no_more_than_a_point_below(lora, held):
    found = {baselines.LORA: outcomes(lora), baselines.FULL: outcomes((0.8, 0.81, 0.79))}
    assert baselines.STUDY.conclude(SETTING, found).held is held


@pytest.mark.parametrize(("one", "held"), [(HIGH, True), (LOW, False), (MIXED, None)])
def test_a_low_rank_suffices_where_it_loses_less_than_a_point(one, held):
    found = {"q,v r=1": outcomes(one), "q,v r=64": outcomes(HIGH)}
    assert rank.STUDY.conclude(SETTING, found).held is held


@pytest.mark.parametrize(("both", "held"), [(HIGH, True), (LOW, False), (MIXED, None)])
def test_two_projections_are_beside_the_best_single_one(both, held):
    found = {"Wq": outcomes((0.7, 0.71, 0.69)), "Wv": outcomes((0.3, 0.31, 0.29)), "Wq, Wv": outcomes(both)}
    assert placement.STUDY.conclude(SETTING, found).held is held


def test_on_a_par_is_with_every_method_and_those_ahead_are_named():
    found = {baselines.LORA: outcomes((0.6, 0.61, 0.59)), baselines.FULL: outcomes((0.3, 0.31, 0.29))}
    assert baselines.STUDY.conclude(SETTING, found).held is True  # control
    beyond = baselines.STUDY.conclude(SETTING, {**found, "adapter P": outcomes(HIGH)})
    assert beyond.held is False
    assert "ahead of LoRA, by their means: adapter P (-0.200" in beyond.text
    assert baselines.STUDY.conclude(SETTING, {**found, "LoRA and prefix-layer": outcomes(HIGH)}).held is True


def test_two_projections_are_best_where_they_are_ahead_of_all_places():
    found = {"Wq": outcomes((0.7, 0.71, 0.69)), "Wq, Wv": outcomes(HIGH)}
    assert placement.STUDY.conclude(SETTING, found).held is True
    assert placement.STUDY.conclude(SETTING, {**found, "Wq, Wk, Wv, Wo": outcomes((0.9, 0.91, 0.89))}).held is False


@pytest.mark.parametrize(
    ("intervals", "held"),
    [
        ([(0.99, 1.01), (0.98, 1.019)], True),
        ([(0.99, 1.01), (1.015, 1.1)], None),
        ([(0.99, 1.01), (1.03, 1.1)], False),
    ],
)
def test_a_merged_adapter_costs_nothing_where_no_interval_is_beyond_noise(intervals, held):
    assert latency._held([Estimate((low + high) / 2, low, high) for low, high in intervals]) is held


def test_no_factor_below_one_is_an_amplification():
    clear = norms((2.0, 2.1, 1.9), (1.0, 1.1, 0.9), (9.0, 9.1, 8.9))
    assert amplification._held(clear, [(0.3, 0.31, 0.29), (0.1, 0.1, 0.1)]) is False


def test_the_update_of_a_federation_is_measured_at_the_rank_of_a_client():
    update = random_adapter({"q": (8, 8)}, (6,))
    cut = amplification.at_rank(update, 2)
    assert cut["q"].rank == 2
    dense = update["q"].b.astype("f8") @ update["q"].a
    u, s, vt = np.linalg.svd(dense)
    np.testing.assert_allclose(cut["q"].b @ cut["q"].a, (u[:, :2] * s[:2]) @ vt[:2], atol=1e-5)
    assert amplification.at_rank(update, 6)["q"] is update["q"]


@pytest.mark.parametrize(
    ("lora", "prefix", "held"),
    [((LOW, HIGH), (HIGH, LOW), True), ((HIGH, LOW), (HIGH, LOW), False), ((LOW, HIGH), (LOW, HIGH), False)],
)
def test_a_fall_is_one_beyond_noise(lora, prefix, held):
    def family(name, sizes, runs):
        return {f"{name} {n}": outcomes(each, parameters=n) for n, each in zip(sizes, runs, strict=True)}

    found = family("LoRA", (1, 4), lora) | family("prefix-layer", (4, 16), prefix)
    found |= family("prefix-embedding", (4, 16), (LOW, HIGH)) | family("adapter H", (1, 4), (LOW, HIGH))
    assert parameters.STUDY.conclude(SETTING, found).held is held


def test_a_fall_within_its_interval_is_left_open():
    flat, unsure = estimate([0.0, 0.0, 0.0]), estimate([-0.2, 0.2, 0.1])
    assert parameters._held(flat, unsure) is None
    assert parameters._held(flat, estimate([0.2, 0.2, 0.2])) is True  # control


def norms(update, random, top):
    keys = amplification.OF_UPDATE, amplification.AT_RANDOM, amplification.OF_WEIGHT
    return [dict(zip(keys, each, strict=True)) for each in zip(update, random, top, strict=True)]


def test_what_an_update_amplifies_is_decided_by_every_seed():
    clear = norms((2.0, 2.1, 1.9), (1.0, 1.1, 0.9), (9.0, 9.1, 8.9))
    assert amplification._held(clear, [(20, 21, 19), (2, 2, 2)]) is True
    assert amplification._held(clear, [(2, 2, 2), (20, 21, 19)]) is False
    assert amplification._held(norms((1.0, 3.0, 0.5), (1.0, 1.1, 0.9), (9, 9, 9)), [(20, 21, 19), (2, 2, 2)]) is None
