import json

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.numpy import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from client.model.lora import Lora
from client.model.targets import find_targets
from common.adapters.adapter import zeros
from common.huggingface.peft_config import CONFIG
from common.huggingface.peft_folder import WEIGHTS, read_peft_folder, write_peft_folder
from simulations.tiny_base import tiny_base
from tests.helpers.common.disk_faults import largest_file
from tests.helpers.common.models import AUTO_MODEL, LABELS, adapted_logits, load, logits, random_adapter

RANKS = (3, 1, 0, 5, 2)
RUNS = [(kind, "classification") for kind in ("bert", "roberta", "deberta", "gpt2", "llama")]
RUNS += [("gpt2", "causal-lm"), ("llama", "causal-lm")]


def _export(folder, base, targets="query-value", ranks=RANKS, embeddings=()):
    """Write a random adapter of this base, head included; the adapter and the logits of our own layers."""
    lora = Lora(base.model, find_targets(base, targets))
    adapter = random_adapter(lora.shapes, ranks)
    write_peft_folder(folder, adapter, base.head, str(base.folder), base.task, embeddings)
    return adapter, adapted_logits(lora, adapter)


def _plain(base):
    """Load the base as a user does: a head that the checkpoint lacks is drawn at random."""
    labels = {"num_labels": len(LABELS)} if base.task == "classification" else {}
    return AUTO_MODEL[base.task].from_pretrained(base.folder, **labels)


def _with_peft(base, folder):
    return logits(PeftModel.from_pretrained(_plain(base), folder))


def _assert_same(actual, expected):
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "task"), RUNS)
@pytest.mark.parametrize("targets", ["query-value", "all-linear"])
def test_peft_on_the_plain_base_gives_our_logits(kind, task, targets, tmp_path):
    base = load(kind, task)
    _, expected = _export(tmp_path, base, targets)
    _assert_same(_with_peft(base, tmp_path), expected)
    assert not torch.allclose(logits(_plain(base)), expected, atol=1e-2)


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta", "gpt2", "llama"])
def test_a_redrawn_head_gives_other_logits(kind, tmp_path):
    base = load(kind)
    _, expected = _export(tmp_path, base)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file({key: t for key, t in tensors.items() if "lora_" in key}, tmp_path / WEIGHTS)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"modules_to_save": None, "task_type": None}))
    assert not torch.allclose(_with_peft(base, tmp_path), expected, atol=1e-2)


def test_a_head_below_the_classifier_is_exported_too(tmp_path):
    folder = tmp_path / "without-pooler"
    AutoModel.from_pretrained(tiny_base("bert"), add_pooling_layer=False).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_base("bert")).save_pretrained(folder)
    base = load("bert", folder=folder)
    assert [module.name for module in base.head] == ["bert.pooler.dense", "classifier"]
    _, expected = _export(tmp_path / "adapter", base)
    _assert_same(_with_peft(base, tmp_path / "adapter"), expected)


@pytest.mark.parametrize("targets", ["query-value", "all-linear"])
def test_a_base_that_has_its_own_head_keeps_it(targets, tmp_path):
    folder = tmp_path / "finetuned"
    AUTO_MODEL["classification"].from_pretrained(tiny_base("bert"), num_labels=len(LABELS)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_base("bert")).save_pretrained(folder)
    base = load("bert", folder=folder)
    assert base.head == ()
    _, expected = _export(tmp_path / "adapter", base, targets)
    _assert_same(_with_peft(base, tmp_path / "adapter"), expected)


@pytest.mark.parametrize(("kind", "embedding"), [("llama", "model.embed_tokens"), ("gpt2", "transformer.wte")])
@pytest.mark.parametrize("task", ["classification", "causal-lm"])
def test_embeddings_are_exported_as_such(kind, embedding, task, tmp_path):
    base = load(kind, task)
    _, expected = _export(tmp_path, base, (embedding, "c_attn" if kind == "gpt2" else "q_proj"), embeddings={embedding})
    _assert_same(_with_peft(base, tmp_path), expected)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_peft_merges_it_into_the_base(kind, tmp_path):
    base = load(kind, "causal-lm")
    _, expected = _export(tmp_path, base)
    merged = PeftModel.from_pretrained(_plain(base), tmp_path).merge_and_unload()
    _assert_same(logits(merged), expected)


def test_the_folder_alone_names_its_base_and_its_task(tmp_path):
    writer, classifier = load("llama", "causal-lm"), load("llama", "classification")
    _, expected = _export(tmp_path / "writer", writer)
    _assert_same(logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "writer")), expected)
    _, expected = _export(tmp_path / "classifier", classifier)
    model = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "classifier", num_labels=len(LABELS))
    _assert_same(logits(model), expected)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_an_untrained_adapter_still_loads_and_changes_nothing(kind, tmp_path):
    base = load(kind)
    _, expected = _export(tmp_path, base, ranks=(0,))
    torch.testing.assert_close(_with_peft(base, tmp_path), expected, rtol=1e-5, atol=1e-5)


def test_ranks_are_per_module_and_every_scaling_is_one(tmp_path):
    base = load("llama", "causal-lm")
    adapter, _ = _export(tmp_path, base)
    model = PeftModel.from_pretrained(_plain(base), tmp_path)
    layers = {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert {name: m.r["default"] for name, m in layers.items()} == {n: f.rank for n, f in adapter.items() if f.rank}
    assert {m.scaling["default"] for m in layers.values()} == {1.0}


@pytest.mark.parametrize(("kind", "task"), [("roberta", "classification"), ("gpt2", "causal-lm")])
def test_reading_back_gives_the_same_product(kind, task, tmp_path):
    base = load(kind, task)
    adapter, _ = _export(tmp_path, base)
    again = read_peft_folder(tmp_path)
    head = {module.name for module in base.head}
    assert list(again.adapter) == [name for name, f in adapter.items() if f.rank and name not in head]
    for name, factors in again.adapter.items():
        np.testing.assert_array_equal(factors.b @ factors.a, adapter[name].b @ adapter[name].a)
    assert set(again.saved) == {f"{name}.{part}" for name in head for part in ("weight", "bias")}


def test_an_export_that_fails_leaves_the_one_before(tmp_path):
    shapes = {"x": (4, 3)}
    write_peft_folder(tmp_path, random_adapter(shapes, (2,)), (), "base", "causal-lm")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with largest_file(50), pytest.raises(OSError, match="File too large"):
        write_peft_folder(tmp_path, zeros(shapes), (), "base", "causal-lm")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_export_replaces_the_one_before(tmp_path):
    shapes = {"x": (4, 3)}
    write_peft_folder(tmp_path, random_adapter(shapes, (2,)), (), "base", "causal-lm")
    write_peft_folder(tmp_path, zeros(shapes), (), "base", "causal-lm")
    assert read_peft_folder(tmp_path).adapter["x"].rank == 1
    assert not read_peft_folder(tmp_path).adapter["x"].b.any()
