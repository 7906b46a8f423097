"""Targets: the modules that get an adapter (client/model/targets.py)."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSeq2SeqLM, T5Config, ViTConfig
from transformers.pytorch_utils import Conv1D

from client.model.base_model import BaseModel
from client.model.targets import find_targets
from common.errors import ConfigError
from tests.helpers.common.models import load

QUERY_VALUE = [
    ("bert", "bert.encoder.layer.{}.attention.self.{}", ("query", "value"), ("classifier",)),
    (
        "roberta",
        "roberta.encoder.layer.{}.attention.self.{}",
        ("query", "value"),
        ("classifier.dense", "classifier.out_proj"),
    ),
    (
        "deberta",
        "deberta.encoder.layer.{}.attention.self.{}",
        ("query_proj", "value_proj"),
        ("classifier", "pooler.dense"),
    ),
    ("gpt2", "transformer.h.{}.attn.{}", ("c_attn",), ("score",)),
    ("llama", "model.layers.{}.self_attn.{}", ("q_proj", "v_proj"), ("score",)),
]


@pytest.mark.parametrize(("kind", "path", "projections", "head"), QUERY_VALUE)
def test_query_and_value_projections_and_the_new_head_are_found(kind, path, projections, head):
    expected = {path.format(layer, projection) for layer in (0, 1) for projection in projections} | {*head}
    assert set(find_targets(load(kind), "query-value")) == expected


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_language_model_has_no_new_head(kind):
    names = find_targets(load(kind, "causal-lm"), "query-value")
    assert len(names) == {"gpt2": 2, "llama": 4}[kind]
    assert not any("head" in name for name in names)


def _stand_in(automatic, config):
    """Return a base that has only names and kinds of modules."""
    with torch.device("meta"):
        return BaseModel(Path("base"), automatic.from_config(config), None, "classification", ())


def test_query_and_value_projections_of_t5():
    config = T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=64)
    names = find_targets(_stand_in(AutoModelForSeq2SeqLM, config), "query-value")
    attention = [f"encoder.block.{n}.layer.0.SelfAttention" for n in (0, 1)]
    attention += [
        f"decoder.block.{n}.layer.{kind}" for n in (0, 1) for kind in ("0.SelfAttention", "1.EncDecAttention")
    ]
    assert set(names) == {f"{name}.{side}" for name in attention for side in "qv"}


def test_query_and_value_projections_of_vit():
    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32)
    names = find_targets(_stand_in(AutoModel, config), "query-value")
    assert set(names) == {f"layers.{layer}.attention.{side}_proj" for layer in (0, 1) for side in "qv"}


@pytest.mark.parametrize(
    ("kind", "task", "output"),
    [
        ("bert", "classification", None),
        ("gpt2", "causal-lm", "lm_head"),
        ("llama", "causal-lm", "lm_head"),
        ("llama", "classification", None),
    ],
)
def test_all_linear_is_every_linear_module_but_the_output_projection(kind, task, output):
    base = load(kind, task)
    linear = {name for name, module in base.model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    assert output is None or output in linear
    assert set(find_targets(base, "all-linear")) == linear - {output}


def test_a_list_names_modules_by_their_last_parts_or_whole():
    base = load("bert")
    first = "bert.encoder.layer.0.output.dense"
    names = find_targets(base, (first, "key", "word_embeddings"))
    keys = {f"bert.encoder.layer.{layer}.attention.self.key" for layer in (0, 1)}
    assert set(names) == {first, *keys, "bert.embeddings.word_embeddings", "classifier"}


def test_the_end_of_a_name_is_whole_parts():
    with pytest.raises(ConfigError, match="targets = 'uery' matches no module"):
        find_targets(load("bert"), ("uery",))


def test_a_name_twice_is_one_target():
    base = load("bert")
    assert find_targets(base, ("query", "self.query")) == find_targets(base, ("query",))


def test_a_regular_expression_is_matched_with_the_whole_name():
    base = load("llama", "causal-lm")
    assert find_targets(base, r".*layers\.1.*_proj") == tuple(
        sorted(name for name, _ in base.model.named_modules() if "layers.1." in name and name.endswith("_proj"))
    )
    with pytest.raises(ConfigError, match="matches no module"):
        find_targets(base, r"layers\.1.*_proj")


def test_the_output_projection_is_a_target_only_where_it_is_named():
    base = load("llama", "causal-lm")
    assert find_targets(base, ("lm_head",)) == find_targets(base, ".*|lm_head")[:1] == ("lm_head",)
    assert "lm_head" not in {*find_targets(base, "all-linear"), *find_targets(base, ".*")}


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (("qeury",), "[lora] targets = 'qeury' matches no module; did you mean 'query' or"),
        (("query", "vlaue"), "[lora] targets = 'vlaue' matches no module; did you mean 'value'"),
        ("qurey", "[lora] targets = 'qurey' matches no module; did you mean 'query' or"),
        ("query_value", "[lora] targets = 'query_value' matches no module"),
        (("xyz",), "; known: dense, key, query, value"),
        ("(query", "[lora] targets = '(query' is not a valid regular expression: missing ), unterminated subpattern"),
    ],
)
def test_targets_that_match_nothing_are_refused_with_the_nearest_names(targets, reason):
    with pytest.raises(ConfigError) as caught:
        find_targets(load("bert"), targets)
    assert reason in str(caught.value)


def test_a_model_without_such_projections_is_refused():
    base = BaseModel(Path("base"), _Plain(), None, "classification", ())
    with pytest.raises(ConfigError, match="'query-value' matches no module; known: dense, out"):
        find_targets(base, "query-value")


class _Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense, self.out = nn.Linear(2, 2), nn.Linear(2, 2)

    def get_output_embeddings(self):
        return None
