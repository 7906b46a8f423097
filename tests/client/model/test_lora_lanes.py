"""K adapters in one pass equal K passes, each on its own share of the rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.model.lora import Lane, Lora, frozen_lane
from tests.helpers.common.models import TOKENS, adapted_logits, lane_logits, load, random_adapter
from tests.helpers.common.toy_network import SHAPES, gradients, lane, toy, words


def _loss(out):
    weights = torch.arange(out.numel()).reshape(out.shape).cos()
    return (out * weights).sum()


def _one_pass(lora, lanes, x):
    lora.lanes = lanes
    out = lora.model(x)
    for share in out.chunk(len(lanes)):
        _loss(share).backward(retain_graph=True)
    return out.detach(), gradients(lanes)


def _each_alone(lora, lanes, x):
    outs, grads = [], []
    for one, share in zip(lanes, x.chunk(len(lanes)), strict=True):
        out, found = _one_pass(lora, [one], share)
        outs.append(out)
        grads += found
    return torch.cat(outs), grads


def _assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * (1 + expected.abs().max().item()))


@settings(max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 99))
def test_one_pass_equals_one_pass_each(ranks, rows, seed):
    lora = Lora(toy(), SHAPES)
    lanes = [lane(seed + i, rank, scaling=1 + i / 2) for i, rank in enumerate(ranks)]
    x = words(rows * len(lanes), seed)
    (out, grads), (expected, expected_grads) = _one_pass(lora, lanes, x), _each_alone(lora, lanes, x)
    _assert_close(out, expected)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        _assert_close(grad, expected_grad)


def test_another_order_of_lanes_gives_other_outputs():
    lora, x = Lora(toy(), SHAPES), words(6)
    lanes = [lane(i, rank) for i, rank in enumerate((1, 4, 2))]
    expected, _ = _each_alone(lora, lanes, x)
    swapped, _ = _one_pass(lora, [lanes[1], lanes[0], lanes[2]], x)
    assert not torch.allclose(swapped[:4], expected[:4], atol=1e-2)
    _assert_close(swapped[4:], expected[4:])


def test_lanes_may_adapt_other_modules_each():
    lora, x = Lora(toy(), SHAPES), words(6)
    whole = lane(0, 3)
    lanes = [whole, Lane(trained={"conv": whole.trained["conv"]}), Lane()]
    lora.lanes = lanes
    out = lora.model(x)
    for one, share, rows in zip(lanes, out.chunk(3), x.chunk(3), strict=True):
        lora.lanes = [one]
        _assert_close(share, lora.model(rows))
    lora.lanes = ()
    assert torch.equal(out[4:], lora.model(x)[4:])


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_real_architectures_serve_two_adapters_at_once(kind):
    base = load(kind)
    names = [n for n, m in base.model.named_modules() if n.endswith(("query", "v_proj", "c_attn"))]
    lora = Lora(base.model, [*names, *(m.name for m in base.head)])
    one, other = (random_adapter(lora.shapes, ranks, seed) for ranks, seed in (((2, 5), 1), ((3,), 2)))
    both = lane_logits(lora, [frozen_lane(one), frozen_lane(other)])
    half = len(TOKENS["input_ids"]) // 2
    _assert_close(both[:half], adapted_logits(lora, one)[:half])
    _assert_close(both[half:], adapted_logits(lora, other)[half:])
    assert not torch.allclose(both[half:], adapted_logits(lora, one)[half:], atol=1e-2)


def test_rows_that_cannot_be_shared_evenly_are_refused():
    lora = Lora(toy(), SHAPES)
    lora.lanes = [lane(0, 1), lane(1, 1)]
    with pytest.raises(ValueError, match="5 rows cannot be shared among 2 adapters"):
        lora.model(words(5))
