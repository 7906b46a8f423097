"""Heads from sums are those of all rows together: the same for any split, and LDA's as computed from the rows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.heads.class_sums import sum_rows
from common.heads.closed_form import PENALTIES, TEMPERATURES, as_factors, head_weight

C, H = 5, 12
KINDS = pytest.mark.parametrize("kind", ["means", "lda"])


def rows(count, seed=0, spread=1.0, constant=True):
    """Return features about a mean for each class, with one coordinate that is always the same, and labels."""
    draw = np.random.default_rng(seed)
    means = draw.standard_normal((C, H))
    labels = draw.choice(C, count, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    noise = draw.standard_normal((count, H)) @ np.diag(np.linspace(0.2, 2.0, H))
    features = means[labels] + spread * noise
    features[:, 0] = 3.0 if constant else features[:, 0]
    return features.astype("f4"), labels


def oracle(features, labels, penalty):
    """LDA from the rows themselves (Hastie, Tibshirani & Friedman 2009, section 4.3): weight and bias."""
    x = features.astype("f8")
    means = np.array([x[labels == c].mean(axis=0) for c in range(C)])
    within = (x - means[labels]).T @ (x - means[labels]) / len(x)
    inverse = np.linalg.inv(within + penalty * np.trace(within) / H * np.eye(H))
    priors = np.bincount(labels, minlength=C) / len(x)
    return means @ inverse, np.log(priors) - 0.5 * np.einsum("ch,hg,cg->c", means, inverse, means)


def probabilities(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("penalty", PENALTIES["lda"])
def test_lda_is_that_of_the_rows(penalty):
    features, labels = rows(400)
    weight, bias = oracle(features, labels, penalty)
    head = head_weight(sum_rows(features, labels, C, gram=True), "lda", penalty)
    expected = probabilities(features @ weight.T + bias)
    assert np.abs(probabilities(features.astype("f8") @ head.T) - expected).max() < 1e-3
    assert np.abs(probabilities(features @ weight.T) - expected).max() > 0.01  # control: without the bias


@KINDS
@settings(deadline=None)
@given(st.lists(st.integers(0, 300), max_size=5), st.integers(0, 9))
def test_the_head_is_the_same_for_any_split(kind, cuts, seed):
    features, labels = rows(300, seed, constant=False)
    edges = [0, *sorted(cuts), 300]
    parts = [sum_rows(features[a:b], labels[a:b], C, kind == "lda") for a, b in itertools.pairwise(edges)]
    total = sum(parts[1:], parts[0])
    for penalty in PENALTIES[kind]:
        whole = head_weight(sum_rows(features, labels, C, kind == "lda"), kind, penalty)
        split = head_weight(total, kind, penalty)
        assert np.linalg.norm(split - whole) <= 1e-6 * np.linalg.norm(whole)


@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-4, 1e-6])
def test_the_head_is_the_same_for_any_split_of_features_that_hardly_differ(spread):
    """As those of a pooler that saturates; then the covariance is a small difference of large sums."""
    draw = np.random.default_rng(0)
    features = (draw.standard_normal(384) + spread * draw.standard_normal((600, 384))).astype("f4")
    labels, owners = draw.integers(C, size=600), draw.integers(50, size=600)
    parts = [sum_rows(features[owners == node], labels[owners == node], C, gram=True) for node in range(50)]
    whole, total = sum_rows(features, labels, C, gram=True), sum(parts[1:], parts[0])
    for penalty in PENALTIES["lda"]:
        head, split = head_weight(whole, "lda", penalty), head_weight(total, "lda", penalty)
        assert np.linalg.norm(split - head) <= 1e-6 * np.linalg.norm(head)


@KINDS
def test_it_is_right_where_classes_are_apart(kind):
    features, labels = rows(400, spread=0.2)
    weight = head_weight(sum_rows(features, labels, C, kind == "lda"), kind, PENALTIES[kind][0])
    assert np.mean((features @ weight.T).argmax(axis=1) == labels) > 0.95
    shuffled = np.random.default_rng(1).permutation(labels)
    control = head_weight(sum_rows(features, shuffled, C, kind == "lda"), kind, PENALTIES[kind][0])
    assert np.mean((features @ control.T).argmax(axis=1) == labels) < 0.8


@KINDS
def test_a_class_without_rows_is_the_least_likely_and_nothing_is_infinite(kind):
    features, labels = rows(200)
    kept = labels != 4
    sums = sum_rows(features[kept], labels[kept], C, kind == "lda")
    weight = head_weight(sums, kind, PENALTIES[kind][-1])
    assert np.isfinite(weight).all()
    assert np.mean((features[kept] @ weight.T).argmax(axis=1) == 4) < 0.02


@KINDS
def test_one_row_and_none_give_a_finite_head(kind):
    features, labels = rows(1)
    for count in (0, 1):
        sums = sum_rows(features[:count], labels[:count], C, kind == "lda")
        assert all(np.isfinite(head_weight(sums, kind, penalty)).all() for penalty in PENALTIES[kind])


def test_the_factors_are_exact_and_of_the_rank_of_the_classes():
    weight = head_weight(sum_rows(*rows(200), C, gram=True), "lda", 1e-2)
    for temperature in TEMPERATURES:
        factors = as_factors(weight, temperature)
        assert factors.rank <= C
        assert np.allclose(factors.b @ factors.a, weight / temperature, rtol=1e-12, atol=1e-12)
