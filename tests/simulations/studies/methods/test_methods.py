"""Every method on tiny bases: its count, its start, what it trains and what it leaves alone."""

import numpy as np
import pytest
import torch

from client.data.batches import Batch
from client.objectives.examples import eval_batches
from common.adapters.adapter import Adapter
from common.errors import ModelError
from common.protocol.assignment import Assignment, Training
from common.settings.recipe import LoraSettings
from simulations.studies.engine.central import NAME, train_centrally
from simulations.studies.measures import parameters
from simulations.studies.methods.attached import attach
from simulations.studies.methods.bottleneck import Bottleneck
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.own_weights import OwnWeights
from simulations.studies.methods.places import fused_projections, layers
from simulations.studies.methods.prefix import Prefix, _start
from simulations.studies.methods.together import Together
from tests.helpers.client.training import bench, random_rows, same_bits
from tests.helpers.common.models import load

SETTINGS = LoraSettings(alpha=4)
ENCODERS = ["bert", "roberta", "deberta"]
KINDS = [*((kind, "classification") for kind in ENCODERS), ("llama", "causal-lm")]
METHODS = {
    "full": OwnWeights(),
    "H": Bottleneck(4),
    "L": Bottleneck(4, "L"),
    "P": Bottleneck(4, "P"),
    "D": Bottleneck(4, "D"),
    "compacter": Bottleneck(4, "P", kronecker=2),
    "prefix embedding": Prefix(3),
    "prefix layer": Prefix(3, layers=True),
    "lora": LowRank(2),
    "lora and prefix": Together(LowRank(2), Prefix(3, layers=True)),
}
INSERTING = ["prefix embedding", "prefix layer", "lora and prefix"]


def logits(attached, batch):
    attached.model.lora.lanes = [attached.lane]
    with torch.no_grad():
        return attached.model(batch)


def whole(rows):
    (batch,) = eval_batches(rows, len(rows))
    return batch


@pytest.mark.parametrize("kind", ENCODERS)
def test_counts_are_those_of_the_paper(kind):
    base = load(kind, "classification")
    d, count = base.model.config.hidden_size, len(layers(base))
    r, l_p, l_i = 4, 5, 2
    wanted = [
        (LowRank(r), parameters.lora(2 * count, d, r)),
        (LowRank(r, ("query", "key", "value", "output")), parameters.lora(4 * count, d, r)),
        (Prefix(l_p, l_i), parameters.prefix_embedding(d, l_p, l_i)),
        (Prefix(l_p, l_i, layers=True), parameters.prefix_layer(count, d, l_p, l_i)),
        (Bottleneck(r, "H"), parameters.bottleneck(2 * count, d, r, layer_norms=2 * count)),
        (Bottleneck(r, "L"), parameters.bottleneck(count, d, r, layer_norms=count)),
        (Bottleneck(r, "P"), parameters.bottleneck(count, d, r)),
        (Bottleneck(r, "D"), parameters.bottleneck(count - count // 2, d, r)),
        (Together(LowRank(r), Prefix(l_p)), parameters.lora(2 * count, d, r) + parameters.prefix_embedding(d, l_p, 0)),
    ]
    for method, number in wanted:
        assert attach(method, base, SETTINGS, 0).count == number, method


@pytest.mark.parametrize(("kind", "task"), [*KINDS, ("gpt2", "causal-lm")])
def test_full_fine_tuning_counts_every_parameter_and_bitfit_the_biases(kind, task):
    base = load(kind, task)
    new = {f"{head.name}.{end}" for head in base.head for end in ("weight", "bias")}
    held = {name: each.numel() for name, each in base.model.named_parameters() if name not in new}
    assert attach(OwnWeights(), base, SETTINGS, 0).count == sum(held.values())
    biases = sum(count for name, count in held.items() if name.endswith("bias"))
    if biases:
        assert attach(OwnWeights(biases=True), base, SETTINGS, 0).count == biases
    else:
        with pytest.raises(ModelError, match="no biases to train; use a base that has"):
            attach(OwnWeights(biases=True), base, SETTINGS, 0)


@pytest.mark.parametrize("task", ["causal-lm", "classification"])
def test_where_query_and_value_are_in_one_lora_has_as_many_parameters_there(task):
    base = load("gpt2", task)
    method, count = LowRank(2), len(layers(base))
    assert method.targets(base) == tuple(f"transformer.h.{n}.attn.c_attn" for n in range(count))
    assert attach(method, base, SETTINGS, 0).count == parameters.lora(2 * count, base.model.config.hidden_size, 2)
    assert not fused_projections(load("llama", "causal-lm"))  # control


def test_compacter_counts_its_kronecker_factors():
    base, n, r = load("bert", "classification"), 2, 4
    d, count = base.model.config.hidden_size, len(layers(base))
    each = n * (r // n + d // n) * 2 + r + d
    assert attach(Bottleneck(r, "P", kronecker=n), base, SETTINGS, 0).count == n**3 + count * each


@pytest.mark.parametrize("name", [name for name in METHODS if name not in INSERTING])
def test_a_method_begins_as_the_base(name):
    where = bench("llama", "causal-lm")
    batch = whole(where.rows)
    before = logits(attach(LowRank(1), where.base, SETTINGS, 0), batch)
    found = logits(attach(METHODS[name], where.base, SETTINGS, 0), batch)
    assert before.abs().max() > 0.1
    torch.testing.assert_close(found, before, atol=1e-6, rtol=0)


def test_a_bottleneck_with_its_own_layer_norm_begins_as_the_base_too():
    where = bench("bert", "classification")
    hidden = where.base.model.bert.encoder.layer[0]
    attached = attach(Bottleneck(4, "L"), where.base, SETTINGS, 0)
    x = torch.randn(2, 5, where.base.model.config.hidden_size)
    changed = attached.model.base.model.bert.encoder.layer[0]
    torch.testing.assert_close(_first(changed(x)), _first(hidden(x)))


def _first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_it_learns_and_leaves_the_base_alone(name, kind, task):
    where = bench(kind, task)
    held = {key: each.clone() for key, each in where.base.model.state_dict().items()}
    attached = attach(METHODS[name], where.base, SETTINGS, 0)
    begun = [each.detach().clone() for each in (*attached.own, *attached.head)]
    batch = whole(where.rows)
    before = where.rows.objective.measure(_lanes(attached), batch).loss.item()
    train_centrally(attached, where.rows, Training((1e-2,) * 8, batch=4))
    after = where.rows.objective.measure(_lanes(attached), batch).loss.item()
    assert after < before
    moved = [not torch.equal(*pair) for pair in zip(begun, (*attached.own, *attached.head), strict=True)]
    assert sum(moved) >= 0.6 * len(moved)  # what no row reaches, as an unused table of positions, stays
    assert all(torch.equal(each, held[key]) for key, each in where.base.model.state_dict().items())


def _lanes(attached):
    attached.model.lora.lanes = [attached.lane]
    return attached.model


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_a_row_does_not_see_the_padding_of_another(name, kind, task):
    where = bench(kind, task)
    attached = attach(METHODS[name], where.base, SETTINGS, 0)
    train_centrally(attached, where.rows, Training((1e-2,) * 4, batch=4))
    longer = random_rows(task, [3, 9, 6])
    together = logits(attached, whole(longer))
    for number, batch in enumerate(eval_batches(longer, 1)):
        alone = logits(attached, batch)[0]
        same = together[number] if task == "classification" else together[number, : len(alone)]
        torch.testing.assert_close(same, alone, atol=2e-5, rtol=0)


def test_adapters_are_those_of_the_product_bit_for_bit():
    where = bench("llama", "causal-lm")
    attached = attach(LowRank(2), where.base, SETTINGS, 7)
    training = Training((1e-2, 5e-3, 1e-3), batch=4, dropout=0.1, accumulate=2)
    start = Assignment(Adapter(), attached.adapter, scaling=SETTINGS.scaling(2))
    train_centrally(attached, where.rows, training)
    product = where.train(start, training, name=NAME).adapter
    assert same_bits(attached.adapter, product)
    assert any(np.abs(each.b).max() > 0 for each in product.values())


@pytest.mark.parametrize("method", [LowRank(2, ("query",)), LowRank(2, ("key",)), LowRank(2, ("query", "key"))])
def test_a_projection_that_the_architecture_does_not_have_is_named(method):
    with pytest.raises(ModelError, match=r"has no projection for (query|key) of its own; a layer has .*attn.c_attn"):
        attach(method, load("gpt2", "causal-lm"), SETTINGS, 0)


def test_a_prefix_has_no_place_where_ids_find_the_last_token():
    with pytest.raises(ModelError, match="classifies at the last token"):
        attach(Prefix(2), load("gpt2", "classification"), SETTINGS, 0)
    with pytest.raises(ModelError, match="set infix = 0"):
        attach(Prefix(2, infix=1), load("gpt2", "causal-lm"), SETTINGS, 0)


def test_compacter_names_a_width_that_does_not_divide():
    with pytest.raises(ModelError, match="n = 3 does not divide"):
        attach(Bottleneck(4, "P", kronecker=3), load("bert", "classification"), SETTINGS, 0)


def test_an_infix_is_behind_the_row_and_before_the_padding():
    """The logits of a row with l_i = 1 are those of the row with that embedding as its last token."""
    base = load("bert", "classification")
    attached = attach(Prefix(0, infix=1), base, SETTINGS, 0)
    words = base.model.get_input_embeddings().weight
    word = int((attached.own[0][0] - words).norm(dim=1).argmin())
    own = attached.model.base.model
    own.classifier.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    base_like = bench("bert", "classification").base
    base_like.model.classifier.weight.data.copy_(own.classifier.weight.data)
    ids, mask = torch.tensor([[2, 9, 8, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]])
    found = logits(attached, Batch(ids, mask, torch.zeros(1, dtype=torch.long)))
    longer = torch.tensor([[2, 9, 8, word]])
    with torch.no_grad():
        wanted = base_like.model(input_ids=longer, attention_mask=torch.ones_like(longer)).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_embeddings_may_be_of_another_width_than_the_layers():
    """As in ELECTRA small, of 128 and 256."""
    words, hidden = _start(load("bert", "classification").model, (2, 3, 48), seed=1)
    assert (words.shape, hidden.shape) == ((3, 32), (2, 3, 48))
