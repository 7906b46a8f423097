import math

import numpy as np
import pytest

from client.scoring.value_metrics import matthews, pearson, spearman

RANDOM = np.random.default_rng(0)
PREDICTED, TRUE = RANDOM.normal(size=(2, 20)).tolist()


def test_matthews_by_hand():
    """Found 3 of 4 positives, 4 of 6 negatives: (3*4 - 2*1) / sqrt(5*4*6*5)."""
    predicted, true = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert matthews(predicted, true) == pytest.approx(10 / math.sqrt(600))


def test_matthews_of_three_classes_is_that_of_their_indicators():
    """Gorodkin, 2004: the correlation of the two (n, 3) tables of indicators."""
    predicted, true = RANDOM.integers(0, 3, size=(2, 40))
    x, y = (np.eye(3)[each] - np.eye(3)[each].mean(0) for each in (predicted, true))
    expected = (x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum())
    assert matthews(predicted.tolist(), true.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize(("predicted", "value"), [([0, 1, 1], 1), ([1, 0, 0], -1), ([1, 1, 1], 0)])
def test_matthews_ends_and_that_of_one_answer_to_all(predicted, value):
    assert matthews(predicted, [0, 1, 1]) == value


def test_pearson_by_its_formula():
    x, y = (np.array(each) - np.mean(each) for each in (PREDICTED, TRUE))
    assert pearson(PREDICTED, TRUE) == pytest.approx((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))


def test_spearman_is_pearson_of_ranks():
    ranks = [np.argsort(np.argsort(each)).tolist() for each in (PREDICTED, TRUE)]
    assert spearman(PREDICTED, TRUE) == pytest.approx(pearson(*ranks))


def test_only_spearman_is_blind_to_a_bend():
    bent = [math.exp(5 * each) for each in TRUE]
    assert spearman(bent, TRUE) == pytest.approx(1)
    assert pearson(bent, TRUE) < 0.9
    assert pearson([3 * each + 1 for each in TRUE], TRUE) == pytest.approx(1)


@pytest.mark.parametrize("metric", [pearson, spearman])
def test_a_correlation_with_a_constant_is_undefined(metric):
    assert metric([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert metric([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) is None
    assert metric([1.0], [2.0]) is None
