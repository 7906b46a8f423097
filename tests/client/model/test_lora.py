import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.models.bart.modeling_bart import BartScaledWordEmbedding

from client.model.lora import Branch, Lane, Lora, module_shape
from common.errors import ModelError
from tests.helpers.common.models import load, logits
from tests.helpers.common.toy_network import SHAPES, branches, lane, toy, words


class _Alone(nn.Module):
    """One module under the name `layer`."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def _alone(kind):
    if kind == "scaled embedding":
        return _Alone(BartScaledWordEmbedding(11, 6, padding_idx=0, embed_scale=3.0))
    return _Alone(getattr(toy(), kind))


def _inputs(module):
    torch.manual_seed(3)
    if isinstance(module, nn.Embedding):
        return words(8)
    return torch.randn(8, 4, module_shape("x", module)[1], requires_grad=True)


def _peft(network, r, alpha):
    """Return the network with PEFT's LoRA, and its two factors as (r, k) and (d, r)."""
    model = get_peft_model(network, LoraConfig(r=r, lora_alpha=alpha, target_modules=["layer"]))
    layer = model.base_model.model.layer
    sides = (
        (layer.lora_embedding_A["default"], layer.lora_embedding_B["default"])
        if layer.lora_embedding_A
        else (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    )
    for side in sides:
        nn.init.normal_(side)
    return model, sides


def _run(network, x, factors):
    """Return outputs, and the gradients of both factors and, if it has one, of the input."""
    leaves = [*factors, x] if x.is_floating_point() else list(factors)
    out = network(x)
    return out.detach(), torch.autograd.grad(out.square().sum(), leaves)


@pytest.mark.parametrize("kind", ["linear", "conv", "embedding", "scaled embedding"])
@pytest.mark.parametrize(("r", "alpha"), [(1, 1), (4, 4), (4, 12), (8, 2)])
def test_outputs_and_gradients_are_those_of_peft(kind, r, alpha):
    ours, theirs = _alone(kind), None
    theirs, (a, b) = _peft(copy.deepcopy(ours), r, alpha)
    mine = Branch(*(f.detach().clone().requires_grad_() for f in (a, b)), alpha / r)
    x = _inputs(ours.layer)
    plain = ours(x).detach()
    Lora(ours, ["layer"]).lanes = [Lane({"layer": mine})]
    expected, expected_gradients = _run(theirs, x, (a, b))
    actual, actual_gradients = _run(ours, x, (mine.a, mine.b))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    for actual_gradient, gradient in zip(actual_gradients, expected_gradients, strict=True):
        assert gradient.abs().max() > 0.1
        torch.testing.assert_close(actual_gradient, gradient, rtol=1e-5, atol=1e-5 * gradient.abs().max().item())
    assert not torch.allclose(actual, plain, atol=1e-2)


def test_a_pass_is_the_equation():
    """y = W0 x + U (V x) + s B (A x), written out with dense matrices."""
    network = toy()
    lora = Lora(network, ["linear"])
    x = torch.randn(3, 6)
    frozen, trained = branches(1, 2)["linear"], branches(2, 3, scaling=0.5)["linear"]
    dense = network.linear.weight + frozen.b @ frozen.a + 0.5 * trained.b @ trained.a
    lora.lanes = [Lane({"linear": trained}, {"linear": frozen})]
    torch.testing.assert_close(network.linear(x), x @ dense.T + network.linear.bias, rtol=1e-5, atol=1e-5)


def test_only_the_trained_factors_have_gradients():
    network = toy()
    lora = Lora(network, SHAPES)
    one = lane(0, 3)
    lora.lanes = [one]
    network(words(4)).sum().backward()
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert all(b.a.grad is None and b.b.grad is None for b in one.frozen.values())
    assert all(b.a.grad.any() and b.b.grad.any() for b in one.trained.values())


def test_one_factor_can_be_trained_alone():
    network = toy()
    lora = Lora(network, SHAPES)
    one = lane(0, 3)
    for each in one.trained.values():
        each.a.requires_grad_(False)
    lora.lanes = [one]
    network(words(4)).sum().backward()
    assert all(b.a.grad is None and b.b.grad.any() for b in one.trained.values())


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_attaching_leaves_the_model_as_it_is(kind):
    model = load(kind).model
    before, modules = {n: t.clone() for n, t in model.state_dict().items()}, dict(model.named_modules())
    plain = logits(model)
    Lora(model, [n for n, m in modules.items() if isinstance(m, nn.Linear | nn.Embedding)])
    assert dict(model.named_modules()) == modules
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert torch.equal(logits(model), plain)


def test_detaching_restores_the_outputs_bit_for_bit():
    network, x = toy(), words(4)
    plain = network(x)
    lora = Lora(network, SHAPES)
    lora.lanes = [lane(0, 3)]
    assert not torch.allclose(network(x), plain, atol=1e-2)
    lora.detach()
    assert torch.equal(network(x), plain)


def test_b_of_zero_gives_the_bits_of_the_base():
    network, x = toy(), words(4)
    plain = network(x)
    zero = {name: Branch(each.a, torch.zeros_like(each.b)) for name, each in branches(0, 3).items()}
    Lora(network, SHAPES).lanes = [Lane(zero)]
    assert torch.equal(network(x), plain)


def test_shapes_are_outputs_by_inputs():
    assert Lora(toy(), SHAPES).shapes == SHAPES


@pytest.mark.parametrize(("name", "reason"), [("norm", "is a LayerNorm"), ("linaer", "is not in the model")])
def test_a_target_that_cannot_be_adapted_is_named(name, reason):
    network = toy()
    with pytest.raises(ModelError, match=f"target {name} {reason}; adapters fit Linear, Conv1D and Embedding"):
        Lora(network, ["linear", name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_size_base_keeps_float32_factors(dtype):
    network, x, exact = toy().to(dtype), words(6), toy()
    one = lane(0, 3)
    lanes = [one]
    Lora(network, SHAPES).lanes = lanes
    Lora(exact, SHAPES).lanes = lanes
    out = network(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), exact(x), rtol=0.1, atol=0.3)
    out.float().square().mean().backward()
    assert all(f.grad.dtype == torch.float32 and f.grad.any() for b in one.trained.values() for f in (b.a, b.b))
