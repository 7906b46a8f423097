"""Found by use: modules that PEFT does not apply as they were trained are no targets, whatever the architecture."""

import logging

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from client.model.adaptable import unfit_modules
from client.model.base_model import BaseModel, load_base
from client.model.lora import Lora
from client.model.targets import find_targets
from common.errors import ConfigError, ModelError
from common.huggingface.peft_folder import write_peft_folder
from simulations.architectures.configs import DECODERS, settings_of
from simulations.architectures.trial import write_base
from simulations.tiny_base import tiny_base
from tests.helpers.common.models import adapted_logits, logits, random_adapter

MLP = ("gate_proj", "up_proj", "down_proj")
EXPERTS = ("deepseek_v3", "deepseek_v2", "qwen3_next", "dots1", "glm4_moe", "ernie4_5_moe", "hunyuan_v1_moe")
APART = ("qwen2_moe", "qwen3_5_moe_text", "llama4_text", "jamba")
MAMBAS = ("mamba", "mamba2", "falcon_mamba")


def language_model(kind, folder, **changes):
    """Load a tiny base of this architecture."""
    return load_base(str(write_base(kind, "causal-lm", folder, **changes)), "causal-lm", (), "float32", "cpu")


def dense(kind, folder, **changes):
    """Load a tiny base of this architecture without any expert."""
    if kind in DECODERS:
        return language_model(kind, folder, first_k_dense_replace=changes["num_hidden_layers"], **changes)
    config = AutoConfig.for_model(kind, **settings_of("qwen3"))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_base("llama")).save_pretrained(folder)
    return load_base(str(folder), "causal-lm", (), "float32", "cpu")


def linear(base):
    last = base.model.get_output_embeddings()
    return [n for n, each in base.model.named_modules() if isinstance(each, nn.Linear) and each is not last]


def gap_of_peft(base, names, folder):
    """Return how far PEFT's logits with random factors of these modules are from ours, and how far they move."""
    skeleton = base.skeleton()
    lora = Lora(skeleton.model, names)
    adapter = random_adapter(lora.shapes, (2, 3))
    plain, ours = logits(skeleton.model), adapted_logits(lora, adapter)
    embeddings = [name for name in names if isinstance(skeleton.model.get_submodule(name), nn.Embedding)]
    write_peft_folder(folder, adapter, (), str(base.folder), "causal-lm", embeddings)
    theirs = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.folder), folder))
    return (theirs - ours).abs().max().item(), (ours - plain).abs().max().item()


@pytest.mark.parametrize("kind", [*EXPERTS, *APART, *MAMBAS])
def test_found_B1_B2_peft_applies_all_linear_with_equal_logits(kind, tmp_path):
    base = language_model(kind, tmp_path / "base")
    gap, moved = gap_of_peft(base, find_targets(base, "all-linear"), tmp_path / "peft")
    assert gap < 1e-4 * max(moved, 1)
    assert moved > 0.1


@pytest.mark.parametrize("kind", EXPERTS)
def test_found_B1_what_is_left_out_is_what_peft_does_not_apply(kind, tmp_path, caplog):
    base = language_model(kind, tmp_path / "base")
    with caplog.at_level(logging.WARNING):
        left_out = {*linear(base)} - {*find_targets(base, "all-linear")}
    assert {name.rpartition(".")[2] for name in left_out} == {*MLP}
    assert f"[lora] targets = 'all-linear' leaves out {min(left_out, key=linear(base).index)}" in caplog.text
    assert "for its fused experts" in caplog.text
    gap, moved = gap_of_peft(base, sorted(left_out), tmp_path / "peft")
    assert gap > 0.5 * moved  # control: PEFT does not apply them


@pytest.mark.parametrize("kind", ["deepseek_v3", "qwen3_next"])
@pytest.mark.parametrize("targets", [MLP, ("q_proj", "up_proj"), r".*\.(o_proj|down_proj)"])
def test_found_B1_a_module_that_is_named_on_purpose_is_refused_by_name(kind, targets, tmp_path):
    changes = {"q_lora_rank": None} if kind == "deepseek_v3" else {}
    base = language_model(kind, tmp_path / "base", **changes)
    with pytest.raises(ConfigError, match=r"names model\.layers\.\d.*_proj, which cannot be adapted: PEFT takes"):
        find_targets(base, targets)


@pytest.mark.parametrize("kind", APART)
def test_found_B1_control_modules_that_peft_leaves_as_they_are_stay_targets(kind, tmp_path):
    names = find_targets(language_model(kind, tmp_path / "base"), "all-linear")
    assert {*MLP} <= {name.rpartition(".")[2] for name in names}


@pytest.mark.parametrize("kind", ["deepseek_v3", "beam"])
def test_found_B1_a_model_of_such_a_type_without_any_expert_is_taken_likewise(kind, tmp_path):
    sizes = {"num_hidden_layers": 2} if kind == "deepseek_v3" else {}
    base = dense(kind, tmp_path / "base", **sizes)
    assert not any(p.ndim == 3 for p in base.model.parameters())
    names = find_targets(base, "all-linear")
    assert not {name.rpartition(".")[2] for name in names} & {*MLP}
    gap, moved = gap_of_peft(base, names, tmp_path / "peft")
    assert gap < 1e-4 * max(moved, 1) < 0.1 < moved
    gap, moved = gap_of_peft(base, linear(base), tmp_path / "all")
    assert gap > 0.1 * moved  # control


@pytest.mark.parametrize("kind", ["jamba", "mamba", "falcon_mamba"])
def test_found_B2_a_module_that_the_model_never_calls_is_no_target(kind, tmp_path):
    base = language_model(kind, tmp_path / "base")
    unused = [name for name in linear(base) if name.endswith("dt_proj")]
    assert unused
    assert not {*unused} & {*find_targets(base, "all-linear")}
    with pytest.raises(ConfigError, match=r"dt_proj, which cannot be adapted: a \w+ model reads its weight without"):
        find_targets(base, ("dt_proj",))
    skeleton = base.skeleton()
    lora = Lora(skeleton.model, unused)
    plain = logits(skeleton.model)
    assert torch.equal(adapted_logits(lora, random_adapter(lora.shapes, (2,))), plain)  # control


@pytest.mark.parametrize("kind", [kind for kind in DECODERS if kind != "qwen3_5_text"])  # no cache
@pytest.mark.slow
def test_found_B1_each_target_of_each_architecture_moves_logits_as_in_peft(kind, tmp_path):
    base = language_model(kind, tmp_path / "base")
    names = find_targets(base, "all-linear")
    for number, last in enumerate(sorted({name.rpartition(".")[2] for name in names})):
        chosen = [name for name in names if name.endswith(f".{last}")]
        gap, moved = gap_of_peft(base, chosen, tmp_path / str(number))
        assert gap < 1e-4 * max(moved, 1), last
        assert moved > 1e-3, last


@pytest.mark.parametrize("kind", MAMBAS)
def test_found_B2_out_proj_of_mamba_is_left_out_said_and_refused_when_named(kind, tmp_path, caplog):
    base = language_model(kind, tmp_path / "base")
    with caplog.at_level(logging.WARNING):
        assert not any(name.endswith("out_proj") for name in find_targets(base, "all-linear"))
    assert f"layers.0.mixer.out_proj, backbone.layers.1.mixer.out_proj of {base.folder}: PEFT refuses" in caplog.text
    with pytest.raises(ConfigError, match=r"names backbone\.layers\.0\.mixer\.out_proj, which cannot be adapted: PEFT"):
        find_targets(base, ("out_proj", "in_proj"))
    with pytest.raises(ValueError, match="incompatible"):  # control
        gap_of_peft(base, ["backbone.layers.0.mixer.out_proj"], tmp_path / "peft")


def test_found_B2_control_out_proj_of_another_model_is_a_target(tmp_path):
    base = language_model("opt", tmp_path / "base")
    assert any(name.endswith("out_proj") for name in find_targets(base, "all-linear"))


@pytest.mark.parametrize(("kind", "router"), [("llama4_text", "feed_forward.router"), ("phimoe", "mlp.router")])
def test_found_B3_a_router_that_returns_more_than_one_tensor_is_no_target(kind, router, tmp_path):
    base = language_model(kind, tmp_path / "base")
    assert not any(name.endswith("router") for name in find_targets(base, "all-linear"))
    with pytest.raises(ConfigError, match=rf"names model\.layers\.0\.{router}, which cannot be adapted: a \w+Router"):
        find_targets(base, ("router",))


def test_found_B3_a_failing_target_is_named(tmp_path):
    base = language_model("llama4_text", tmp_path / "base").skeleton()
    lora = Lora(base.model, ["model.layers.1.feed_forward.router"])
    with pytest.raises(ModelError, match=r"target model\.layers\.1\.feed_forward\.router, a Llama4Router, returns"):
        adapted_logits(lora, random_adapter(lora.shapes, (2,)))


def test_found_B3_control_a_linear_layer_that_computes_in_its_own_way_stays(tmp_path):
    names = find_targets(language_model("falcon", tmp_path / "base"), "all-linear")
    assert any(name.endswith("query_key_value") for name in names)


def test_found_B3_an_attention_that_reads_a_weight_past_its_module_and_odd_embeddings_are_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.plain, self.places = nn.MultiheadAttention(8, 2), nn.Linear(8, 8), Places(4, 8)

        def get_output_embeddings(self):
            return None

    class Places(nn.Embedding):
        def forward(self, x):
            return super().forward(x + 1)

    base = BaseModel("base", Odd(), None, "causal-lm", ())
    assert find_targets(base, "all-linear") == ("plain",)
    with pytest.raises(ConfigError, match="names places, which cannot be adapted: a Places does more than look up"):
        find_targets(base, ("places",))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma", "mistral", "opt", "cohere"])
@pytest.mark.parametrize("targets", [("lm_head",), ("lm_head", "embed")], ids=["head", "both"])
def test_found_B11_the_output_projection_and_the_embedding_are_adapted_as_peft_does(kind, targets, tmp_path):
    base = language_model(kind, tmp_path / "base")
    embedding = next(n for n, m in base.model.named_modules() if m is base.model.get_input_embeddings())
    names = find_targets(base, tuple(embedding if target == "embed" else target for target in targets))
    assert names == tuple(sorted(["lm_head", embedding][: len(targets)]))
    gap, moved = gap_of_peft(base, names, tmp_path / "peft")
    assert gap < 1e-4 * max(moved, 1)
    assert moved > 0.1


@pytest.mark.parametrize("targets", ["all-linear", "query-value", ("q_proj", "fc1"), r".*(q|o)(ut)?_proj"])
def test_found_B13_what_no_text_passes_through_is_left_out_and_said(targets, tmp_path, caplog):
    base = language_model("gemma3", tmp_path / "base")
    with caplog.at_level(logging.WARNING):
        names = find_targets(base, targets)
    assert names
    assert all(".language_model." in name for name in names)
    assert "model.vision_tower.encoder.layers.0." in caplog.text
    assert "texts do not pass through it" in caplog.text
    gap, moved = gap_of_peft(base, names, tmp_path / "peft")
    assert gap < 1e-4 * max(moved, 1)
    towers = [name for name in linear(base) if "vision_tower" in name]
    lora = Lora(base.skeleton().model, towers)
    assert torch.equal(adapted_logits(lora, random_adapter(lora.shapes, (2,))), logits(lora.model))  # control


@pytest.mark.parametrize("targets", [("fc1",), ("model.vision_tower.encoder.layers.0.mlp.fc2",), r".*vision_tower.*"])
def test_found_B13_naming_only_what_no_text_passes_through_is_refused(targets, tmp_path):
    base = language_model("gemma3", tmp_path / "base")
    with pytest.raises(
        ConfigError, match=r"names model\.vision_tower\.\S+, which cannot be adapted: texts do not pass"
    ):
        find_targets(base, targets)


def test_found_B13_a_classifier_of_such_a_model_adapts_its_text_part_and_its_head(tmp_path):
    folder = write_base("gemma3", "causal-lm", tmp_path / "base")
    names = find_targets(load_base(str(folder), "classification", ("a", "b"), "float32", "cpu"), "all-linear")
    assert "score" in names
    assert all(".language_model." in name for name in names if name != "score")


def test_every_unfit_module_has_a_reason_on_models_without_weights():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama4_text", **settings_of("llama4_text")))
    assert {name.rpartition(".")[2] for name in unfit_modules(model)} == {"router"}
