"""What each study trains, and what it refuses before anything is trained."""

import pytest

from common.errors import FedloraError
from common.settings.tasks import MULTI, REGRESSION
from simulations.studies.claims.accuracy.placement import PLACES, _unequal
from simulations.studies.engine.setting import Setting
from simulations.studies.registry import STUDIES
from tests.helpers.client.own_heads import write_rows
from tests.helpers.client.problem_rows import label_sets, numbers
from tests.helpers.end_to_end.command import TINY
from tests.helpers.simulations.runs import write_recipe

GPT2 = ("base.path=tiny:gpt2",)
LANGUAGE = ("data.task=causal-lm", "clients.partition=iid")


def arms(name, *words, recipe=TINY, quick=False):
    return STUDIES[name].arms(Setting(recipe, words, 2, quick))


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("rank", [f"{place} r={r}" for place in ("q", "q,v", "q,k,v,o") for r in (1, 2, 4, 8, 64)]),
        ("placement", ["Wq", "Wk", "Wv", "Wo", "Wq, Wk", "Wq, Wv", "Wq, Wk, Wv, Wo"]),
        ("subspace", ["r = 8", "r = 64"]),
        ("amplification", ["r = 4", "r = 64"]),
        (
            "baselines",
            [
                *("full fine-tuning", "BitFit", "prefix-embedding", "prefix-layer"),
                *("adapter H", "adapter L", "adapter P", "adapter D", "Compacter"),
                *("LoRA, r = 8", "LoRA and prefix-layer"),
            ],
        ),
    ],
)
def test_a_whole_study_trains_all_that_it_names(name, names):
    assert [arm.name for arm in arms(name)] == names


def test_every_placement_has_the_same_budget():
    assert [place.rank * len(place.roles) for place in PLACES.values()] == [8] * 7


def test_few_rows_are_100_1000_and_all_that_there_are():
    assert {arm.rows for arm in arms("low-data")} == {100, 270}  # those of the toy corpus, without test and validation


@pytest.mark.parametrize(
    ("counts", "said"), [([8, 8], ""), ([8, 1200], "the budgets are no equal ones, from 8 to 1,200")]
)
def test_budgets_that_differ_are_told(counts, said):
    assert said in _unequal(counts)
    assert bool(_unequal(counts)) == bool(said)


@pytest.mark.parametrize("name", ["low-data", "budget"])
def test_a_base_with_query_and_value_in_one_can_answer_what_is_not_about_either(name):
    assert arms(name, *GPT2, *LANGUAGE)


@pytest.mark.parametrize("name", ["subspace", "amplification", "skew"])
def test_a_base_with_query_and_value_in_one_cannot_answer_what_is_about_each(name):
    assert arms(name)  # control
    with pytest.raises(FedloraError, match="has no projection for query of its own"):
        arms(name, *GPT2)


@pytest.mark.parametrize(("problem", "rows"), [(REGRESSION, numbers), (MULTI, label_sets)])
@pytest.mark.parametrize("name", ["subspace", "amplification", "redundancy", "rank", "skew"])
def test_rows_without_one_class_are_refused(name, problem, rows, tmp_path):
    recipe = write_recipe(tmp_path, write_rows(tmp_path / "rows.jsonl", rows()), problem_type=problem)
    with pytest.raises(FedloraError, match=rf"problem_type = '{problem}': study {name} .*one class a row"):
        arms(name, recipe=recipe)


def test_skew_needs_as_many_clients_as_it_trains_alone():
    with pytest.raises(FedloraError, match="count = 2: study skew trains 3 clients alone; set count to 3 or more"):
        arms("skew", "clients.count=2", "clients.ranks=[4]")
