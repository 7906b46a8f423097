import pytest
import torch
from torch import nn

from client.model.lora import Lora, branch, merge, unmerge
from client.model.targets import find_targets
from common.adapters.adapter import Adapter, Factors
from common.errors import ModelError
from tests.helpers.common.models import adapted_logits, load, logits, random_adapter
from tests.helpers.common.toy_network import SHAPES, toy, words

RUNS = [("bert", "classification"), ("gpt2", "classification"), ("gpt2", "causal-lm"), ("llama", "causal-lm")]


def _state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same_bits(model, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("kind", "task"), RUNS)
def test_merged_weights_give_the_logits_of_base_and_adapter(kind, task):
    base = load(kind, task)
    lora = Lora(base.model, find_targets(base, "all-linear"))
    adapter = random_adapter(lora.shapes, (3, 1, 0, 5, 2))
    plain, expected, state = logits(base.model), adapted_logits(lora, adapter), _state(base.model)
    originals = merge(base.model, adapter)
    torch.testing.assert_close(logits(base.model), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-2)
    unmerge(base.model, originals)
    assert _same_bits(base.model, state)
    assert torch.equal(logits(base.model), plain)


@pytest.mark.parametrize(("kind", "task"), RUNS)
def test_tasks_are_switched_in_place_and_w0_comes_back_bit_for_bit(kind, task):
    base = load(kind, task)
    lora = Lora(base.model, find_targets(base, "all-linear"))
    first, second = (random_adapter(lora.shapes, (3, 1), seed) for seed in (1, 2))
    plain, state, tensors = logits(base.model), _state(base.model), set(map(id, base.model.parameters()))
    for adapter in (first, second, first):
        lora.merge(adapter)
        found = logits(base.model)
        assert not torch.allclose(found, plain, atol=1e-2)
        lora.unmerge()
        torch.testing.assert_close(found, adapted_logits(lora, adapter), rtol=1e-5, atol=1e-5)
        lora.merge(adapter)
    lora.unmerge()
    assert _same_bits(base.model, state)
    assert set(map(id, base.model.parameters())) == tensors  # the very tensors: nothing was loaded
    lora.unmerge()
    assert torch.equal(logits(base.model), plain)


def test_a_switch_is_from_one_adapter_to_the_other_and_not_their_sum():
    base = load("llama", "causal-lm")
    lora = Lora(base.model, find_targets(base, "query-value"))
    first, second = (random_adapter(lora.shapes, (2,), seed) for seed in (1, 2))
    lora.merge(first)
    lora.merge(second)
    switched = logits(base.model)
    lora.unmerge()
    torch.testing.assert_close(switched, adapted_logits(lora, second), rtol=1e-5, atol=1e-5)


def test_a_switch_that_is_refused_leaves_the_merged_adapter():
    base = load("gpt2", "causal-lm")
    lora = Lora(base.model, ["transformer.h.0.attn.c_attn", "lm_head"])
    state = _state(base.model)
    lora.merge(random_adapter({"transformer.h.0.attn.c_attn": lora.shapes["transformer.h.0.attn.c_attn"]}, (2,)))
    merged = logits(base.model)
    with pytest.raises(ModelError, match="tied"):
        lora.merge(random_adapter(lora.shapes, (2,)))
    assert torch.equal(logits(base.model), merged)
    lora.unmerge()
    assert _same_bits(base.model, state)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("before", [False, True])
def test_a_switch_that_fails_half_way_leaves_w0(before, dtype, error, monkeypatch):
    network = toy().to(dtype)
    lora, state, own = Lora(network, SHAPES), _state(network), list(network.parameters())
    if before:
        lora.merge(random_adapter(SHAPES, (2,), seed=1))
    monkeypatch.setattr("client.model.lora.branch", failing_at_the_second_call(error))
    with pytest.raises(error):
        lora.merge(random_adapter(SHAPES, (2,), seed=2))
    assert _same_bits(network, state)
    monkeypatch.undo()
    lora.merge(random_adapter(SHAPES, (2,), seed=3))
    assert not _same_bits(network, state)
    lora.unmerge()
    assert _same_bits(network, state)
    assert all(one is other for one, other in zip(network.parameters(), own, strict=True))


def failing_at_the_second_call(error):
    calls = iter([None, error])

    def fails(factors, device):
        if (each := next(calls)) is not None:
            raise each
        return branch(factors, device)

    return fails


def test_a_merge_that_fails_half_way_changes_nothing(monkeypatch):
    network = toy()
    state = _state(network)
    monkeypatch.setattr("client.model.lora.branch", failing_at_the_second_call(MemoryError))
    with pytest.raises(MemoryError):
        merge(network, random_adapter(SHAPES, (2,)))
    assert _same_bits(network, state)


def test_a_switch_writes_into_the_weights_of_the_adapter_before():
    network = toy()
    lora = Lora(network, SHAPES)
    lora.merge(random_adapter(SHAPES, (2,), seed=1))
    places = [network.get_submodule(name).weight.data_ptr() for name in SHAPES]
    lora.merge(random_adapter(SHAPES, (2,), seed=2))
    assert [network.get_submodule(name).weight.data_ptr() for name in SHAPES] == places


def test_a_switch_between_adapters_of_other_modules_restores_those_that_are_left():
    network, one = toy(), {"linear": SHAPES["linear"]}
    lora, state = Lora(network, SHAPES), _state(network)
    other = {name: shape for name, shape in SHAPES.items() if name not in one}
    lora.merge(random_adapter(other, (2,)))
    lora.merge(random_adapter(one, (2,)))
    assert all(torch.equal(network.get_submodule(name).weight, state[f"{name}.weight"]) for name in other)
    assert not torch.equal(network.linear.weight, state["linear.weight"])
    lora.unmerge()
    assert _same_bits(network, state)


def test_a_sum_that_float16_cannot_hold_is_refused_and_leaves_w0():
    network = toy().half()
    lora, state = Lora(network, SHAPES), _state(network)
    huge = Adapter({name: Factors(1e3 * f.a, 1e3 * f.b) for name, f in random_adapter(SHAPES, (2,)).items()})
    with pytest.raises(ModelError, match=r"too large for float16; load the base in bfloat16 or float32"):
        lora.merge(huge)
    assert _same_bits(network, state)
    with pytest.raises(ModelError, match="float16"):
        merge(network, huge)
    assert _same_bits(network, state)
    lora.merge(random_adapter(SHAPES, (2,)))  # control


def test_subtracting_the_update_would_not_restore_the_bits():
    network, factors = toy(), random_adapter(SHAPES, (2,))["linear"]
    state = _state(network)
    for sign in (1, -1):
        merge(network, Adapter({"linear": Factors(factors.a, sign * factors.b)}))
    torch.testing.assert_close(network.linear.weight, state["linear.weight"])
    assert not torch.equal(network.linear.weight, state["linear.weight"])


@pytest.mark.parametrize("name", SHAPES)
def test_the_update_is_added_the_right_way_round(name):
    network, adapter = toy(), random_adapter({name: SHAPES[name]}, (2,))
    before = network.get_submodule(name).weight.clone()
    merge(network, adapter)
    delta = torch.tensor(adapter[name].b @ adapter[name].a)
    added = network.get_submodule(name).weight - before
    torch.testing.assert_close(added, delta if name == "linear" else delta.T)


def test_a_merge_keeps_type_and_takes_no_gradient():
    network = toy().to(torch.bfloat16)
    merge(network, random_adapter(SHAPES, (2,)))
    weights = [network.get_submodule(name).weight for name in SHAPES]
    assert all(w.dtype == torch.bfloat16 and not w.requires_grad for w in weights)
    assert network(words(2)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("kind", "name", "other"),
    [("gpt2", "transformer.wte", "lm_head"), ("gpt2", "lm_head", "transformer.wte")],
)
def test_a_tied_tensor_is_not_merged(kind, name, other):
    base = load(kind, "causal-lm")
    state = _state(base.model)
    adapter = random_adapter(Lora(base.model, [name, "transformer.h.0.attn.c_attn"]).shapes, (2,))
    with pytest.raises(ModelError, match=rf"{name}.weight is tied to {other}.weight.*export an adapter instead"):
        merge(base.model, adapter)
    assert _same_bits(base.model, state)


def test_an_embedding_that_is_not_tied_is_merged():
    base = load("llama", "causal-lm")
    lora = Lora(base.model, ["model.embed_tokens"])
    adapter = random_adapter(lora.shapes, (2,))
    expected = adapted_logits(lora, adapter)
    merge(base.model, adapter)
    torch.testing.assert_close(logits(base.model), expected, rtol=1e-5, atol=1e-5)


def test_a_quantised_weight_is_refused_with_the_remedy():
    network = toy()
    network.linear.weight = nn.Parameter(torch.zeros(15, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ModelError, match=r"linear is stored as torch.uint8; load the base in float32 or bfloat16"):
        merge(network, random_adapter({"linear": SHAPES["linear"]}, (2,)))


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"linear": (6, 5)}, r"linear: the adapter has shape \(6, 5\), the model \(5, 6\)"),
        ({"x": (6, 5)}, "target x is not"),
    ],
)
def test_an_adapter_of_another_model_is_refused_before_anything_changes(shapes, reason):
    network = toy()
    state = _state(network)
    with pytest.raises(ModelError, match=reason):
        merge(network, random_adapter({"conv": SHAPES["conv"], **shapes}, (2,)))
    assert _same_bits(network, state)
