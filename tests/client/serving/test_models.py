"""Adapters by name, from PEFT folders and from runs, checked against the base (client/serving/)."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from client.finished.run import load_run
from client.serving.adapter_folder import read_adapter
from client.serving.cached_rows import LaneModel
from client.serving.models import Models, UnknownModelError
from common.errors import FedloraError
from tests.helpers.client.outputs import gap
from tests.helpers.client.serving import base_hash, peft_folder


@pytest.fixture
def models(llama):
    return Models(llama, "mine")


def test_models_are_added_and_removed_and_the_base_stays(models, llama, folders):
    before, base = base_hash(llama.base), llama.base.folder.name
    assert [each.name for each in models.all] == [base, "mine"]
    models.add("small", folders["small"])
    kept = models.find("small")
    models.add("large", folders["large"])
    models.remove("small")
    assert [each.name for each in models.all] == [base, "mine", "large"]
    assert kept.lane.frozen  # what a request holds stays whole
    with pytest.raises(UnknownModelError, match=re.escape(f"'small' is not served; known: {base}, mine, large")):
        models.find("small")
    with pytest.raises(FedloraError, match="over which all others are served; it stays"):
        models.remove(base)
    assert base_hash(llama.base) == before


def test_a_run_of_the_bases_name_leaves_it_another(llama):
    assert [each.name for each in Models(llama, llama.base.folder.name).all] == ["base", llama.base.folder.name]


@pytest.mark.parametrize("name", ["", "a b", "a\n", "x" * 201, "\x1b[2J"])
def test_a_name_that_cannot_be_typed_is_refused(models, folders, name):
    with pytest.raises(FedloraError, match="use 1 to 200 letters"):
        models.add(name, folders["small"])


def test_a_name_is_given_once(models, folders):
    with pytest.raises(FedloraError, match="'mine' is served already; unload it first"):
        models.add("mine", folders["small"])


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2 classes", "llama", "gpt2 words"])
def test_the_folder_of_a_run_is_read_as_the_run_itself(run_of, kind):
    """Its head, which the folder has whole, included."""
    it = load_run(run_of(kind))
    for folder in (run_of(kind), run_of(kind) / "adapter"):
        read = read_adapter(folder, it.node, it.base)
        assert read.keys() >= {name for name, factors in it.adapter.items() if factors.b.any() and factors.a.any()}
        for name, factors in read.items():
            assert np.allclose(factors.b @ factors.a, it.adapter[name].b @ it.adapter[name].a, atol=1e-6)


def test_an_adapter_of_peft_gives_the_logits_of_peft(llama, tmp_path):
    """One with rank and alpha patterns and rsLoRA."""
    torch.manual_seed(0)
    config = LoraConfig(
        r=4,
        lora_alpha=3,
        use_rslora=True,
        rank_pattern={"q_proj": 7},
        alpha_pattern={"v_proj": 11},
        target_modules=["q_proj", "v_proj", "down_proj"],
        init_lora_weights=False,
    )
    peft = get_peft_model(AutoModelForCausalLM.from_pretrained(llama.base.folder, trust_remote_code=False), config)
    peft.save_pretrained(tmp_path / "theirs")
    models = Models(llama, "mine")
    models.add("theirs", tmp_path / "theirs")
    ids = [5, 6, 7, 8]
    logits = LaneModel(llama.base).begin([ids, ids], [models.find("theirs").lane, models.find("mine").lane])[1]
    with torch.no_grad():
        expected = peft.eval()(input_ids=torch.tensor([ids])).logits[:, -1]
    assert gap(logits[:1], expected) < 1e-4
    assert gap(logits[1:], expected) > 1e-2  # control


def spoil(folder, **changed):
    """Change tensors of a PEFT folder: each by a function, under its key with dots as `__`."""
    tensors = load_file(folder / "adapter_model.safetensors")
    key = next(key for key in tensors if key.endswith("lora_A.weight"))
    for name, change in changed.items():
        tensors[name.replace("__", ".")] = change(tensors[key])
    save_file(tensors, folder / "adapter_model.safetensors")


def nan(array):
    return np.full_like(array, np.nan)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda f: shutil.rmtree(f), "cannot read"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"x"), "cannot read"),
        (
            lambda f: spoil(f, base_model__model__model__norm__weight=lambda a: np.ones(32, np.float32) * 2),
            "model.norm.weight is saved whole and differs from the base",
        ),
        (lambda f: spoil(f, base_model__model__no__weight=lambda a: a), "no.weight is not in the base model"),
        (
            lambda f: spoil(f, base_model__model__model__layers__0__self_attn__q_proj__lora_A__weight=nan),
            "model.layers.0.self_attn.q_proj has numbers that are not finite",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_the_module(models, llama, tmp_path, prepare, reason):
    folder = peft_folder(tmp_path / "a", llama.base, "q_proj", 2, 0)
    prepare(folder)
    with pytest.raises(FedloraError) as caught:
        models.add("a", folder)
    assert reason in str(caught.value)
    assert len(models.all) == 2


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gpt2", "was trained on the base"),
        ("bert", "was trained for classification, not causal-lm; serve it by itself"),
    ],
)
def test_a_run_of_another_base_or_task_is_refused(models, run_of, kind, reason):
    with pytest.raises(FedloraError, match=reason):
        models.add("other", run_of(kind))
    with pytest.raises(FedloraError, match=r"was trained on the base model .*; give an adapter of this base"):
        models.add("other", run_of(kind) / "adapter")


def test_a_run_whose_adapter_was_changed_is_refused(models, run_of, tmp_path):
    shutil.copytree(run_of("llama"), tmp_path / "run")
    models.add("copy", tmp_path / "run")  # control
    (tmp_path / "run" / "adapter" / "adapter_config.json").write_text(
        json.dumps(json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text()))
    )
    with pytest.raises(FedloraError, match="is changed"):
        models.add("other", tmp_path / "run")


def test_a_run_with_other_labels_is_refused(run_of, tmp_path):
    it = load_run(run_of("bert"))
    shutil.copytree(run_of("bert"), tmp_path / "run")
    file = tmp_path / "run" / "test.toml"
    file.write_text(file.read_text().replace(f'"{it.node.data.labels[0]}"', '"elsewhere"'))
    with pytest.raises(FedloraError, match=r"has the labels elsewhere, .*; serve it by itself"):
        Models(it, "mine").add("other", tmp_path / "run")
