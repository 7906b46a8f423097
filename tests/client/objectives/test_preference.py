"""The loss of DPO, held against equation 7 of arXiv 2305.18290 in float64, and its pairs."""

import os
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.batches import Batch
from client.data.rows import Row
from client.data.tokens import IGNORE
from client.model.lora import Lane, branches
from client.objectives.examples import encode_rows, eval_batches
from client.training.adapted_model import AdaptedModel
from client.training.evaluate import evaluate
from common.adapters.adapter import Adapter
from common.errors import ConfigError, DataError
from common.protocol.assignment import Training
from tests.helpers.client.chat_templates import CHATML, chat_tokenizer
from tests.helpers.client.dense import dense_update
from tests.helpers.client.toy_tokenizer import node_data, word_tokenizer, words
from tests.helpers.client.training import PLAIN, bench, largest_gap, random_pairs
from tests.helpers.common.models import random_adapter

os.environ["HF_HUB_OFFLINE"] = "1"

FILE = Path("rows.jsonl")
LENGTHS = [5, 9, 7, 6, 12, 8, 4, 10]


class FixedModel:
    """Logits that are given, for every position and row."""

    def __init__(self, policy, reference):
        self._policy, self._reference = torch.tensor(policy), torch.tensor(reference)

    def __call__(self, batch, places=None):
        return self._policy[:, places]

    def reference(self, batch, places=None):
        return self._reference[:, places]


def log_probability(logits, targets):
    """Return the float64 log-probability of the targets of one row, by the logits before each."""
    total = 0.0
    for place in range(1, len(targets)):
        if targets[place] != IGNORE:
            row = logits[place - 1].astype("f8")
            total += row[targets[place]] - row.max() - np.log(np.exp(row - row.max()).sum())
    return total


def formula(policy, reference, targets, beta):
    """Return equation 7 summed over the pairs, in float64, and the pairs' margins."""
    gains = [log_probability(p, t) - log_probability(q, t) for p, q, t in zip(policy, reference, targets, strict=True)]
    margins = np.array(gains[0::2]) - np.array(gains[1::2])
    return -np.log(1 / (1 + np.exp(-beta * margins))).sum(), margins


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(2, 9), min_size=1, max_size=5).map(lambda lengths: [*lengths, *lengths[::-1]]),
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 2),
)
def test_the_loss_is_that_of_the_paper(lengths, seed, beta):
    examples = random_pairs(lengths, given=(1, 2), seed=seed, beta=beta)
    (batch,) = eval_batches(examples, len(examples))
    draws = np.random.default_rng(seed)
    policy, reference = draws.normal(0, 3, (2, len(lengths), max(lengths), 512)).astype("f4")
    expected, margins = formula(policy, reference, batch.targets.flatten(0, 1).numpy(), beta)
    measured = examples.objective.measure(FixedModel(policy, reference), batch)
    assert measured.loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert examples.objective.metric.sums(measured.outputs, None)[0] == (margins > 0).sum()
    assert examples.objective.count(batch) == len(lengths) / 2


def test_a_pair_that_gained_nothing_is_a_tie_with_the_loss_of_chance():
    examples = random_pairs(LENGTHS)
    (batch,) = eval_batches(examples, 4)
    same = np.random.default_rng(0).normal(0, 3, (8, 12, 512)).astype("f4")
    measured = examples.objective.measure(FixedModel(same, same), batch)
    assert measured.loss.item() == pytest.approx(4 * log(2))
    assert examples.objective.metric.sums(measured.outputs, None)[0] == 2


def preference(kind="llama", **settings):
    return bench(kind, "preference", random_pairs(LENGTHS, given=(1, 3, 2), **settings))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "training", [PLAIN, Training((1e-2,) * 2, batch=1, accumulate=2)], ids=["plain", "accumulated"]
)
@pytest.mark.parametrize("frozen", [0, 3])
def test_an_update_is_that_of_dense_training_by_the_formula(kind, training, frozen):
    where = preference(kind)
    start = where.start(frozen=frozen)
    assert largest_gap(where.train(start, training).adapter, dense_update(where, start, training)) < 2e-4
    other = replace(where, rows=random_pairs(LENGTHS, given=(1, 3, 2), beta=2.0))
    assert largest_gap(where.train(start, training).adapter, dense_update(other, start, training)) > 2e-3  # control


def test_checkpointing_activations_changes_nothing():
    where = preference()
    start = where.start(frozen=3)
    plain, saved = (where.train(start, replace(PLAIN, checkpointing=wanted)) for wanted in (False, True))
    assert largest_gap(plain.adapter, saved.adapter) < 1e-6
    assert plain.loss == pytest.approx(saved.loss, rel=1e-6)


def adapted(where, frozen, trained):
    where.lora.lanes = [Lane(branches(trained), branches(frozen))]
    return AdaptedModel(where.base, where.lora)


def test_the_reference_is_the_frozen_lane_without_the_increment():
    where = preference()
    frozen, increment = (random_adapter(where.lora.shapes, (3,), seed) for seed in (1, 2))
    (batch,) = eval_batches(where.rows, 4)
    reference = adapted(where, frozen, increment).reference(batch)
    assert not reference.requires_grad
    torch.testing.assert_close(reference, adapted(where, frozen, Adapter())(batch))
    assert (reference - adapted(where, Adapter(), Adapter())(batch)).abs().max() > 1e-2  # control: not the base
    assert (reference - adapted(where, frozen, increment)(batch)).abs().max() > 1e-2  # control: not the policy


def test_a_reference_with_the_increment_would_learn_nothing():
    where = preference()
    frozen, increment = (random_adapter(where.lora.shapes, (3,), seed) for seed in (1, 2))
    (batch,) = eval_batches(where.rows, 4)
    model = adapted(where, frozen, increment)
    loss = where.rows.objective.measure(model, batch).loss
    assert abs(loss.item() - 4 * log(2)) > 1e-2
    blind = FixedModel(*(model(batch).detach().numpy() for _ in range(2)))
    assert where.rows.objective.measure(blind, batch).loss.item() == pytest.approx(4 * log(2))


def test_the_lanes_of_the_policy_are_back_after_the_reference():
    where = preference()
    model = adapted(where, Adapter(), random_adapter(where.lora.shapes, (3,)))
    lanes = where.lora.lanes
    with pytest.raises(AttributeError):
        model.reference(None)
    assert where.lora.lanes is lanes


def test_only_the_increment_has_a_gradient():
    where = preference()
    frozen, trained = (branches(random_adapter(where.lora.shapes, (3,), seed)) for seed in (1, 2))
    for each in trained.values():
        each.a.requires_grad_(), each.b.requires_grad_()
    where.lora.lanes = [Lane(trained, frozen)]
    (batch,) = eval_batches(where.rows, 4)
    where.rows.objective.measure(AdaptedModel(where.base, where.lora), batch).loss.backward()
    assert all(side.grad.abs().max() > 0 for each in trained.values() for side in (each.a, each.b))
    others = [*where.base.model.parameters(), *(side for each in frozen.values() for side in (each.a, each.b))]
    assert all(tensor.grad is None for tensor in others)


def test_a_round_begins_at_the_loss_of_chance_wherever_the_reference_has_moved():
    where = preference()
    still = where.train(where.start(b=False, frozen=3), Training((0.0,), batch=4))
    assert still.loss == pytest.approx(log(2), rel=1e-6)
    assert (still.examples, still.tokens) == (4, 4)


def test_an_evaluation_compares_the_whole_update_with_the_base():
    where = preference()
    plain = evaluate(where.base, where.lora, Adapter(), where.rows)
    assert (plain.loss, plain.score, plain.count) == (pytest.approx(log(2)), 0.5, 4)
    update = random_adapter(where.lora.shapes, (3,))
    (batch,) = eval_batches(where.rows, 4)
    policy, base = adapted(where, Adapter(), update)(batch), adapted(where, Adapter(), Adapter())(batch)
    targets = batch.targets.flatten(0, 1).numpy()
    expected, margins = formula(policy.numpy(), base.numpy(), targets, 0.1)
    score = evaluate(where.base, where.lora, update, where.rows, batch=3)
    assert score.loss == pytest.approx(expected / 4, rel=1e-4)
    assert score.score == (margins > 0).mean()


@pytest.mark.parametrize("neighbours", [True, False])
def test_pairs_of_several_nodes_share_a_batch_as_neighbours_only(neighbours):
    """Lanes get a batch's rows in order; control: where all chosen rows come first, pairs cross the lanes."""
    where = preference()
    lanes = [Lane(branches(random_adapter(where.lora.shapes, (3,), seed))) for seed in (1, 2)]
    (batch,) = eval_batches(where.rows, 4)
    alone = []
    for lane, part in zip(lanes, (slice(0, 2), slice(2, 4)), strict=True):
        where.lora.lanes = [lane]
        half = Batch(batch.input_ids[part], batch.attention_mask[part], batch.targets[part])
        alone.append(where.rows.objective.measure(AdaptedModel(where.base, where.lora), half).loss.item())
    where.lora.lanes = lanes
    order = slice(None) if neighbours else torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    rows = [t.flatten(0, 1)[order].view(4, 2, -1) for t in (batch.input_ids, batch.attention_mask, batch.targets)]
    logits = (
        AdaptedModel(where.base, where.lora)(Batch(*rows)),
        AdaptedModel(where.base, where.lora).reference(Batch(*rows)),
    )
    back = slice(None) if neighbours else torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
    together = where.rows.objective.measure(FixedModel(*(each[back].numpy() for each in logits)), batch).loss.item()
    assert (together == pytest.approx(sum(alone), rel=1e-5)) == neighbours


def encode(*rows, **keys):
    numbered = [Row(line, row) for line, row in enumerate(rows, start=1)]
    return encode_rows(numbered, node_data(task="preference", **keys), word_tokenizer(eos_token="<eos>"), FILE)


def test_each_answer_is_joined_to_the_prompt_and_learned():
    examples = encode({"prompt": "w1 w2", "chosen": "w3", "rejected": "w4 w5"})
    (batch,) = eval_batches(examples, 1)
    assert batch.input_ids.tolist() == [[words("w1 w2 w3 <eos> <eos>"), words("w1 w2 w4 w5 <eos>")]]
    assert batch.attention_mask.tolist() == [[[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]]
    assert batch.targets.tolist() == [
        [[IGNORE] * 2 + words("w3 <eos>") + [IGNORE], [IGNORE] * 2 + words("w4 w5 <eos>")]
    ]
    assert (len(batch), len(examples), list(examples.lengths), examples.truncated) == (1, 1, [5], 0)


def test_a_pair_is_cut_if_one_of_its_answers_is():
    rows = [
        {"prompt": "w1", "chosen": "w2", "rejected": "w2 w3 w4"},
        {"prompt": "w1", "chosen": "w2", "rejected": "w3"},
    ]
    examples = encode(*rows, max_length=4)
    assert [pair.cut for pair in examples.rows] == [True, False]
    assert list(examples.lengths) == [4, 3]


def test_columns_go_by_their_settings():
    keys = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    (pair,) = encode({"question": "w1", "good": "w2", "bad": "w3"}, **keys).rows
    assert [list(row.ids) for row in (pair.chosen, pair.rejected)] == [words("w1 w2 <eos>"), words("w1 w3 <eos>")]


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
@pytest.mark.parametrize(
    ("value", "reason"), [(None, "is empty"), ("", "is empty"), (" ", "is blank"), (3, "is not text")]
)
def test_a_row_without_one_of_its_columns_is_told_by_file_and_line(column, value, reason):
    whole = {"prompt": "w1", "chosen": "w2", "rejected": "w3"}
    with pytest.raises(DataError, match=f"rows.jsonl, line 2: '{column}' {reason}"):
        encode(whole, whole | {column: value})


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_a_file_without_one_of_the_columns_is_told_with_the_key(column):
    row = {"prompt": "w1", "chosen": "w2", "rejected": "w3"}
    del row[column]
    with pytest.raises(DataError, match=f"rows.jsonl has the columns .*but no '{column}'.*set {column} = "):
        encode(row)


def test_an_answer_that_is_cut_off_whole_is_refused():
    with pytest.raises(DataError, match="line 1: has nothing to learn in its first 2 tokens; raise max_length"):
        encode({"prompt": "w1 w2", "chosen": "w3", "rejected": "w4"}, max_length=2)


def test_the_two_answers_are_two_columns():
    with pytest.raises(ConfigError, match="chosen and rejected both name the column 'good'"):
        encode({"prompt": "w1", "good": "w2"}, chosen="good", rejected="good")


USER, BETTER, WORSE = (
    {"role": role, "content": text} for role, text in (("user", "hello"), ("assistant", "there"), ("assistant", "you"))
)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "chosen": [BETTER], "rejected": [WORSE]},
        {"chosen": [USER, BETTER], "rejected": [USER, WORSE]},
        {"prompt": "hello", "chosen": [USER, BETTER], "rejected": [USER, WORSE]},
        {"prompt": "hello", "chosen": [BETTER], "rejected": [WORSE]},
    ],
    ids=["messages", "whole chats", "whole chats beside a prompt", "answers to a text"],
)
def test_found_D6_answers_of_messages_are_chats_of_which_the_answers_are_learned(row):
    tokenizer = chat_tokenizer(CHATML)
    data = node_data(task="preference", max_length=99)
    (pair,) = encode_rows([Row(1, row)], data, tokenizer, FILE).rows
    for example, answer in ((pair.chosen, "there"), (pair.rejected, "you")):
        whole = f"<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        assert tokenizer.decode(example.ids) == whole
        assert tokenizer.decode(example.ids[example.targets != IGNORE]) == f"{answer}<|im_end|>\n"


def test_found_D6_answers_that_are_equal_or_no_chat_are_bad_rows():
    data = node_data(task="preference", max_length=99)
    for row, reason in (
        ({"chosen": [USER, BETTER], "rejected": [USER, BETTER]}, "has no turn of the assistant after"),
        ({"chosen": [USER, BETTER], "rejected": "you"}, "'rejected' is not a list of"),
        ({"chosen": [BETTER], "rejected": [WORSE]}, "'prompt' is empty"),
    ):
        with pytest.raises(DataError, match=reason):
            encode_rows([Row(1, row)], data, chat_tokenizer(CHATML), FILE)
