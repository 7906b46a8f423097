from math import log

import pytest
import torch

from client.model.lora import frozen_lane
from client.objectives.examples import eval_batches
from client.training.evaluate import evaluate
from common.adapters.adapter import Adapter
from common.protocol.assignment import Training
from tests.helpers.client.training import TASKS, bench, random_rows
from tests.helpers.common.models import random_adapter


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta", "gpt2", "llama"])
def test_a_new_head_has_the_loss_of_chance(kind):
    where = bench(kind)
    score = evaluate(where.base, where.lora, Adapter(), where.rows)
    assert score.loss == pytest.approx(log(3), abs=1e-6)
    other = evaluate(where.base, where.lora, random_adapter(where.lora.shapes, (2,)), where.rows)
    assert abs(other.loss - log(3)) > 1e-3  # control


def _in_one_batch(where, adapter):
    """Return Transformers' loss and logits for all rows at once."""
    (batch,) = eval_batches(where.rows, len(where.rows))
    where.lora.lanes = [frozen_lane(adapter)]
    with torch.no_grad():
        out = where.base.model(batch.input_ids, attention_mask=batch.attention_mask, labels=batch.targets)
    where.lora.lanes = ()
    return out.loss.item(), out.logits, batch.targets


@pytest.mark.parametrize(("kind", "task"), TASKS)
@pytest.mark.parametrize("rank", [0, 3])
def test_the_loss_is_that_of_transformers(kind, task, rank):
    where = bench(kind, task, random_rows(task, [5, 16, 7, 9, 12], given=(1, 11, 2)))
    adapter = random_adapter(where.lora.shapes, (rank,))
    score = evaluate(where.base, where.lora, adapter, where.rows, batch=2)
    assert score.loss == pytest.approx(_in_one_batch(where, adapter)[0], rel=1e-5)
    count = {"classification": 5, "causal-lm": 4 + 5 + 5 + 8 + 1, "seq2seq": 3 + 9 + 4 + 5 + 7}[task]
    assert score.count == count


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_logits_are_computed_only_where_some_row_has_a_target(kind):
    where = bench(kind, "causal-lm", random_rows("causal-lm", [8, 16, 12], given=(4, 9, 6)))
    seen = []
    where.base.model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: seen.append(tuple(output.shape[:2]))
    )
    evaluate(where.base, where.lora, Adapter(), where.rows)
    assert seen == [(3, 12)]  # positions 3 to 14 of 0 to 15: the first answer starts at 4, the last row ends at 15


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_model_that_always_computes_all_logits_has_the_same_loss(kind):
    where = bench(kind, "causal-lm", random_rows("causal-lm", [5, 16, 7], given=(1, 11, 2)))
    expected = evaluate(where.base, where.lora, Adapter(), where.rows)
    plain = where.base.model.forward
    where.base.model.forward = lambda input_ids, attention_mask, use_cache: plain(
        input_ids, attention_mask=attention_mask
    )
    assert evaluate(where.base, where.lora, Adapter(), where.rows).loss == pytest.approx(expected.loss, rel=1e-6)


def test_accuracy_is_the_share_of_rows_whose_largest_logit_is_their_label():
    where = bench(rows=random_rows("classification", [6] * 30))
    adapter = random_adapter(where.lora.shapes, (3,))
    _, logits, labels = _in_one_batch(where, adapter)
    right = [int(max(range(3), key=row.__getitem__) == label) for row, label in zip(logits, labels, strict=True)]
    assert 0 < sum(right) < 30
    assert evaluate(where.base, where.lora, adapter, where.rows, batch=7).score == sum(right) / 30


def test_a_language_model_has_no_accuracy():
    where = bench("llama", "causal-lm")
    assert evaluate(where.base, where.lora, Adapter(), where.rows).score is None


def test_no_adapter_is_the_base_itself():
    where = bench("llama", "causal-lm")
    plain = evaluate(where.base, where.lora, Adapter(), where.rows)
    assert plain == evaluate(where.base, where.lora, random_adapter(where.lora.shapes, (0,)), where.rows)
    where.lora.detach()
    assert plain == evaluate(where.base, where.lora, random_adapter(where.lora.shapes, (3,)), where.rows)


def test_measuring_leaves_nothing_behind():
    where = bench("llama", "causal-lm")
    evaluate(where.base, where.lora, random_adapter(where.lora.shapes, (3,)), where.rows)
    assert not where.lora.lanes


@pytest.mark.parametrize(("kind", "task"), TASKS)
def test_training_and_measuring_mean_the_same_loss(kind, task):
    where = bench(kind, task, random_rows(task, [5, 16, 7, 9], given=(1, 11, 2)))
    start = where.start(b=False, frozen=3)
    still = where.train(start, Training((0.0,), batch=2, accumulate=2))
    assert still.loss == pytest.approx(evaluate(where.base, where.lora, start.frozen, where.rows).loss, rel=1e-5)
