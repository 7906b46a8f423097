from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rounds.participants import majority_model, mismatch, sample_cohort
from tests.helpers.server.exchange import NumpyNode

ADA = NumpyNode("ada", 4).announcement()
NAMES = [f"node-{i}" for i in range(20)]


def bases(word):
    return [replace(ADA, fingerprint=payload) for payload in word]


@pytest.mark.parametrize(("word", "base"), [("a", "a"), ("abb", "b"), ("bbaa", "a"), ("cabc", "c")])
def test_the_base_is_that_of_the_most(word, base):
    assert majority_model(bases(word)).fingerprint == majority_model(bases(word[::-1])).fingerprint == base


def test_the_shapes_are_those_of_the_most():
    other = replace(ADA, name="a", shapes={"q": (1, 1)})
    assert majority_model([other, ADA, replace(ADA, name="bob", rank=2, rows=3)]).shapes == ADA.shapes


def test_who_takes_part():
    assert mismatch(ADA, {}, ADA, 4) is None
    assert mismatch(ADA, {"bob": ADA}, ADA, 8) is None
    assert mismatch(ADA, {"ada": ADA}, ADA, 4) == "name"
    assert mismatch(ADA, {}, replace(ADA, fingerprint="other"), 4) == "base"
    assert mismatch(ADA, {}, ADA, 3) == "rank"


@pytest.mark.parametrize("change", [{"shapes": {"q": (1, 1)}}, {"embeddings": ("q",)}, {"task": "classification"}])
def test_one_fingerprint_with_another_model_is_refused(change):
    like = replace(ADA, task="causal-lm")
    assert mismatch(replace(like, **change), {}, like, 4) == "shape"
    assert mismatch(replace(like, rank=1, rows=7), {}, like, 4) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../ada", "a\0b", "-a", "ada\n", "a b", "ä", "a" * 65])
def test_a_name_that_cannot_name_a_file_is_refused(name):
    assert mismatch(replace(ADA, name=name), {}, ADA, 4) == "name"


@pytest.mark.parametrize("name", ["a", "Ada-2_b.c", "9", "a" * 64])
def test_other_names_are_not(name):
    assert mismatch(replace(ADA, name=name), {}, ADA, 4) is None


@given(st.permutations(NAMES), st.integers(1, 19), st.integers(0, 9), st.integers(1, 99))
def test_a_cohort_depends_on_names_seed_and_round_alone(names, size, seed, number):
    chosen = sample_cohort(names, size, seed, number)
    assert chosen == sample_cohort(NAMES, size, seed, number) == tuple(sorted(set(chosen)))
    assert len(chosen) == size
    assert set(chosen) < set(NAMES)


def test_other_rounds_and_seeds_choose_others():
    assert len({sample_cohort(NAMES, 5, 0, number) for number in range(1, 50)}) > 40
    assert len({sample_cohort(NAMES, 5, seed, 1) for seed in range(50)}) > 40


def test_every_node_gets_its_turn():
    turns = [name for number in range(1, 401) for name in sample_cohort(NAMES, 5, 0, number)]
    assert all(60 < turns.count(name) < 140 for name in NAMES)  # 100 on average


@pytest.mark.parametrize("size", [None, 3, 4])
def test_all_train_if_no_fewer_are_asked_for(size):
    assert sample_cohort(["cyd", "ada", "bob"], size, 0, 1) == ("ada", "bob", "cyd")
