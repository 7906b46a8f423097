import pytest
import torch

from client.model.lora import Dropout, Lane, Lora, branch
from tests.helpers.common.models import TOKENS, load, random_adapter
from tests.helpers.common.toy_network import SHAPES, branches, toy, words

LARGE = torch.ones(200, 500)


def test_a_mask_is_a_function_of_its_key_and_stream():
    mask = Dropout(0.5, key=7)(LARGE, 1)
    torch.manual_seed(0)
    assert torch.equal(mask, Dropout(0.5, key=7)(LARGE, 1))
    for other in (Dropout(0.5, key=8)(LARGE, 1), Dropout(0.5, key=7)(LARGE, 2)):
        agreement = (mask == other).float().mean().item()
        assert agreement == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_kept_is_scaled_to_the_same_mean(rate):
    out = Dropout(rate, key=3)(LARGE, 0)
    assert (out == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(out.unique(), torch.tensor([0, 1 / (1 - rate)]))


def test_the_type_of_the_input_stays():
    assert Dropout(0.5, key=3)(LARGE.bfloat16(), 0).dtype == torch.bfloat16


def _out(dropout, trained=True, rank=3):
    network = toy()
    factors = branches(0, rank)
    Lora(network, SHAPES).lanes = [Lane(factors, {}, dropout) if trained else Lane({}, factors, dropout)]
    return network(words(6))


def test_a_pass_depends_on_the_key_alone():
    assert torch.equal(_out(Dropout(0.5, 1)), _out(Dropout(0.5, 1)))
    assert not torch.allclose(_out(Dropout(0.5, 1)), _out(Dropout(0.5, 2)), atol=1e-2)


def test_a_rate_of_zero_changes_nothing():
    assert torch.equal(_out(Dropout(0.0, 1)), _out(None))
    assert not torch.allclose(_out(Dropout(0.5, 1)), _out(None), atol=1e-2)


def test_what_is_frozen_sees_every_input():
    assert torch.equal(_out(Dropout(0.5, 1), trained=False), _out(None, trained=False))


def test_word_numbers_are_not_dropped():
    network, x = toy(), words(6)
    lora, factors = Lora(network, ["embedding"]), {"embedding": branches(0, 3)["embedding"]}
    lora.lanes = [Lane(factors)]
    expected = network(x)
    lora.lanes = [Lane(factors, {}, Dropout(0.9, 1))]
    assert torch.equal(network(x), expected)


def _gradients(base, key, checkpointing):
    """Gradients of a tiny Llama, and how often its first projection ran."""
    model, names = base.skeleton().model, ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
    lora = Lora(model, names)
    one = Lane(_trainable(lora.shapes), {}, Dropout(0.5, key))
    runs = []
    model.get_submodule(names[0]).register_forward_hook(lambda *_: runs.append(1))
    if checkpointing:
        model.train()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lora.lanes = [one]
    model(**TOKENS, use_cache=False).logits.square().mean().backward()
    return [f.grad for b in one.trained.values() for f in (b.a, b.b)], len(runs)


def _trainable(shapes):
    trained = {name: branch(factors) for name, factors in random_adapter(shapes, (3,)).items()}
    for each in trained.values():
        each.a.requires_grad_()
        each.b.requires_grad_()
    return trained


def test_recomputed_activations_see_the_same_mask():
    base = load("llama", "causal-lm")
    (expected, once), (actual, twice) = _gradients(base, 1, False), _gradients(base, 1, True)
    assert (once, twice) == (1, 2)
    for gradient, same in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, same, rtol=1e-5, atol=1e-7)
    other, _ = _gradients(base, 2, True)
    assert not torch.allclose(other[0], expected[0], rtol=1e-2)


def test_a_module_of_rank_zero_costs_no_mask(monkeypatch):
    """A budget leaves most modules at rank 0."""
    drawn, draw = [], Dropout.__call__
    monkeypatch.setattr(Dropout, "__call__", lambda self, x, stream: drawn.append(stream) or draw(self, x, stream))
    _out(Dropout(0.5, 1), rank=0)
    assert not drawn
    _out(Dropout(0.5, 1))
    assert drawn  # control
