"""Features are what the checkpoint's own class feeds its last projection, whatever the architecture and the batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.model.lora import Lane, branches
from client.node import attach_lora, describe_model, load_node
from client.objectives.examples import eval_batches, subset
from client.questions.closed_form_head import class_sums, head_losses
from client.training.adapted_model import AdaptedModel
from client.training.evaluate import evaluate
from common.adapters.adapter import Adapter, Factors
from common.heads.closed_form import PENALTIES, as_factors, head_weight
from tests.helpers.client.nodes import write_node
from tests.helpers.common.models import random_adapter

KINDS = ["bert", "roberta", "deberta", "gpt2", "llama"]


class Case:
    """A node on a tiny base, with an update of its body."""

    def __init__(self, folder, kind="bert", rows=40):
        self.node = load_node(write_node(folder, kind, rows=rows))
        shapes = describe_model(self.node.settings, "query-value").shapes
        self.last = self.node.base.head[-1].name
        self.adapter = random_adapter(shapes, (2,), 1)
        self.base, self.lora = attach_lora(self.node.base, tuple(self.adapter))
        self.classes = len(self.node.settings.data.labels)

    def sums(self, rows=None, gram=True, floor=0):
        return class_sums(self.base, self.lora, self.adapter, rows or self.node.train, self.classes, gram, floor)

    def with_head(self, weight):
        head = as_factors(weight).astype("f4")
        return Adapter({**self.adapter, self.last: head})

    def logits(self, adapter, rows):
        self.lora.lanes = [Lane(trained=branches(adapter, self.base.device))]
        with torch.no_grad():
            found = [AdaptedModel(self.base, self.lora)(batch).numpy() for batch in eval_batches(rows, 7)]
        self.lora.lanes = ()
        return np.concatenate(found)


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_of_a_head_are_those_of_the_model_that_has_it(tmp_path, kind):
    case = Case(tmp_path, kind)
    _, width = case.adapter[case.last].shape
    weight = np.random.default_rng(2).standard_normal((case.classes, width))
    rows = case.node.train
    found = head_losses(case.base, case.lora, case.adapter, rows, [as_factors(weight)], [1.0, 2.0])
    for loss, divisor in zip(found, (1.0, 2.0), strict=True):
        expected = evaluate(case.base, case.lora, case.with_head(weight / divisor), rows).loss * len(rows)
        assert loss == pytest.approx(expected, rel=1e-4)
    assert found[0] != pytest.approx(found[1], rel=1e-3)  # control


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_row_that_ends_in_the_padding_token_has_the_features_that_the_class_takes(tmp_path, kind):
    case = Case(tmp_path, kind)
    pad = case.base.model.config.pad_token_id
    ended = tuple(replace(row, ids=np.append(row.ids, np.int32(pad))) for row in case.node.train.rows)
    rows = replace(case.node.train, rows=ended)
    weight = np.random.default_rng(2).standard_normal(case.adapter[case.last].shape)
    (found,) = head_losses(case.base, case.lora, case.adapter, rows, [as_factors(weight)], [1.0])
    assert found == pytest.approx(
        evaluate(case.base, case.lora, case.with_head(weight), rows).loss * len(rows), rel=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_sums_of_two_nodes_are_those_of_one_that_has_all_rows(tmp_path, kind):
    case = Case(tmp_path, kind)
    rows, half = case.node.train, len(case.node.train) // 3
    one, two = (case.sums(subset(rows, part))[0] for part in (range(half), range(half, len(rows))))
    whole, total = case.sums()[0], one + two
    for part in ("classes", "gram"):
        gap = np.linalg.norm(getattr(total, part) - getattr(whole, part))
        assert gap <= 1e-12 * np.linalg.norm(getattr(whole, part))
    assert total.rows == len(rows)
    for kind in PENALTIES:
        for penalty in PENALTIES[kind]:
            split, together = (head_weight(sums, kind, penalty) for sums in (total, whole))
            assert np.linalg.norm(split - together) <= 1e-6 * np.linalg.norm(together)


def test_features_are_those_under_the_update_and_the_head_itself_does_not_matter(case):
    sums = case.sums()[0]
    weight = np.ones(case.adapter[case.last].shape)
    other = Case.with_head(case, weight)
    assert np.array_equal(
        class_sums(case.base, case.lora, other, case.node.train, case.classes, True)[0].gram, sums.gram
    )
    nothing = Adapter({n: Factors(f.a, np.zeros_like(f.b)) for n, f in case.adapter.items()})
    without = class_sums(case.base, case.lora, nothing, case.node.train, case.classes, True)[0]
    assert np.linalg.norm(without.gram - sums.gram) > 1e-3 * np.linalg.norm(sums.gram)


def test_classes_below_the_floor_are_left_out_and_counted(case):
    everything, none_left_out = case.sums()
    assert none_left_out == 0
    floor = int(sorted(everything.counts)[1])
    some, left_out = case.sums(floor=floor)
    small = everything.counts < floor
    assert small.any()
    assert left_out == everything.counts[small].sum() > 0
    assert not some.classes[small].any()
    assert np.array_equal(some.classes[~small], everything.classes[~small])
    assert some.gram[-1, -1] == some.rows == everything.rows - left_out


def test_a_floor_above_all_classes_leaves_sums_of_nothing(case):
    sums, left_out = case.sums(floor=10**6)
    assert (sums.rows, left_out) == (0, len(case.node.train))


def test_a_head_of_means_needs_no_gram_matrix(case):
    assert case.sums(gram=False)[0].gram is None
