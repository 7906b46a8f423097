"""The adapter that a run begins with: known by its content, and fitted to the run's model or refused by name."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from common.adapters.adapter import Adapter
from common.errors import ConfigError, ModelError
from common.huggingface.fingerprint_parts import BASE
from common.huggingface.model_description import ModelDescription
from common.huggingface.new_head import HeadModule
from common.huggingface.peft_config import CONFIG
from common.huggingface.peft_folder import WEIGHTS, read_peft_folder, render_peft_folder, write_files
from common.huggingface.start_adapter import content_hash, fit_start, load_start, pin_adapter
from common.settings.recipe import StartSettings
from tests.helpers.common.models import random_adapter
from tests.helpers.server.exchange import dense

HEAD = (HeadModule("classifier.dense", False, True), HeadModule("classifier.out", True, True))
SHAPES = {"classifier.dense": (6, 6), "classifier.out": (3, 6), "q": (8, 5), "v": (4, 5), "words": (6, 9)}
OWN, OTHER = "1" * 64, "2" * 64
MODEL = ModelDescription("f", "classification", SHAPES, HEAD, ("words",), {BASE: OWN})


def written(folder, adapter=None, head=HEAD, embeddings=("words",), base_hash=OWN):
    """Write an adapter as a run publishes it."""
    adapter = adapter or random_adapter(SHAPES, (2, 3))
    write_files(folder, render_peft_folder(adapter, head, "base", "classification", embeddings, base_hash))
    return adapter


@pytest.fixture
def folder(tmp_path):
    written(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_what_a_run_publishes_is_what_another_begins_at(tmp_path):
    adapter = written(tmp_path)
    start = fit_start(read_peft_folder(tmp_path), "x", MODEL)
    assert start.keys() == adapter.keys()
    for name, factors in adapter.items():
        np.testing.assert_allclose(dense(start[name]), dense(factors), atol=1e-6)


def test_modules_that_the_adapter_leaves_alone_are_absent(tmp_path):
    written(tmp_path, random_adapter({"q": SHAPES["q"]}, (2,)), (), ())
    assert set(fit_start(read_peft_folder(tmp_path), "x", MODEL)) == {"q"}


def changed(folder, change):
    """Change the tensors of a folder, and say that its base is the run's."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    return read_peft_folder(folder)


def test_a_base_embedding_beside_its_factors_is_no_fault(folder):
    stored = changed(folder, lambda t: t.update({"base_model.model.words.base_layer.weight": np.ones((9, 6), "f4")}))
    assert "words.weight" in stored.saved
    fit_start(stored, "x", MODEL)


PREFIX = "base_model.model."
FAULTS = {
    "is no LoRA target": (replace(MODEL, shapes={n: s for n, s in SHAPES.items() if n != "q"}), None),
    "q is (8, 5), and the base's (8, 6)": (replace(MODEL, shapes=SHAPES | {"q": (8, 6)}), None),
    "words is an embedding in one of the two only": (replace(MODEL, embeddings=()), None),
    "it states the base model 111111111111 (SHA-256), the run's is 222222222222": (
        replace(MODEL, parts={BASE: OTHER}),
        None,
    ),
    "classifier.out.weight is (3, 6), and the run's (4, 6)": (
        replace(MODEL, shapes=SHAPES | {"classifier.out": (4, 6)}),
        None,
    ),
    "classifier.out.bias is saved whole, and the run trains no new head of this name": (
        replace(MODEL, head=HEAD[:1]),
        None,
    ),
    "classifier.out.bias that is not zero": (MODEL, {"classifier.out.bias": np.ones(3, "f4")}),
    "classifier.out.weight has numbers that are not finite": (
        MODEL,
        {"classifier.out.weight": np.full((3, 6), np.nan, "f4")},
    ),
    "q has numbers that are not finite": (MODEL, {"q.lora_A.weight": np.full((2, 5), np.inf, "f4")}),
    "lm_head.weight is saved whole": (MODEL, {"lm_head.weight": np.ones((2, 2), "f4")}),
}
"""What is said, by the run's model or by other tensors of the adapter."""


@pytest.mark.parametrize("said", FAULTS)
def test_what_does_not_fit_is_named(said, folder):
    model, tensors = FAULTS[said]
    fit_start(read_peft_folder(folder), "there", MODEL)  # control
    if tensors:
        named = {PREFIX + name: tensor for name, tensor in tensors.items()}
        stored = changed(folder, lambda held: held.update(named))
    else:
        stored = read_peft_folder(folder)
    with pytest.raises(ModelError) as caught:
        fit_start(stored, "there", model)
    assert str(caught.value).startswith("[base] adapter = 'there' does not fit the run: ")
    assert said in str(caught.value)


def test_a_folder_that_states_no_base_and_a_run_that_knows_none_are_not_compared(tmp_path):
    written(tmp_path / "silent", base_hash="")
    assert fit_start(read_peft_folder(tmp_path / "silent"), "x", MODEL)
    written(tmp_path / "stated")
    assert read_peft_folder(tmp_path / "stated").base_hash == OWN
    assert fit_start(read_peft_folder(tmp_path / "stated"), "x", replace(MODEL, parts={}))


def test_a_folder_has_the_same_bytes_each_time():
    adapter = random_adapter(SHAPES, (2, 3))
    made = [render_peft_folder(adapter, HEAD, "base", "classification", ("words",), OWN) for _ in range(8)]
    assert all(each == made[0] for each in made)


# --- the content ---


def test_the_content_is_known_wherever_it_is_and_whatever_its_base_is_called(folder, tmp_path):
    before, config = content_hash(read_peft_folder(folder)), json.loads((folder / CONFIG).read_text())
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "elsewhere"}))
    assert content_hash(read_peft_folder(moved)) == before


@pytest.mark.parametrize("name", ["q.lora_A.weight", "words.lora_embedding_B", "classifier.dense.weight"])
def test_one_other_number_is_another_content(name, folder):
    before = content_hash(read_peft_folder(folder))
    assert content_hash(changed(folder, lambda tensors: None)) == before
    tensors = load_file(folder / WEIGHTS)
    other = np.array(tensors[PREFIX + name])
    other.flat[0] += 1
    assert content_hash(changed(folder, lambda held: held.update({PREFIX + name: other}))) != before


def test_another_scale_is_another_content(folder):
    before, config = content_hash(read_peft_folder(folder)), json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"lora_alpha": 99, "alpha_pattern": {}}))
    assert content_hash(read_peft_folder(folder)) != before


def test_a_run_keeps_the_hash_of_its_adapter(folder, tmp_path):
    pinned = pin_adapter(StartSettings(adapter=str(folder)), begun=False)
    assert pinned.adapter_hash == content_hash(read_peft_folder(folder))
    assert pin_adapter(pinned, begun=True) == pinned
    moved = replace(pinned, adapter=str(shutil.copytree(folder, tmp_path / "moved")))
    assert pin_adapter(moved, begun=True) == moved
    gone = replace(pinned, adapter=str(tmp_path / "gone"))
    assert pin_adapter(gone, begun=True) == gone
    with pytest.raises(ModelError, match=r"cannot read .*gone"):
        pin_adapter(gone, begun=False)


def test_another_adapter_is_refused_and_named(folder, tmp_path):
    pinned = pin_adapter(StartSettings(adapter=str(folder)), begun=False)
    written(tmp_path / "other", random_adapter(SHAPES, (1,), seed=5))
    other = replace(pinned, adapter=str(tmp_path / "other"))
    for refuse in (load_start, lambda base: pin_adapter(base, begun=True), lambda base: pin_adapter(base, begun=False)):
        with pytest.raises(ConfigError, match=rf"other' has content of SHA-256 .* is {pinned.adapter_hash:.12}; give"):
            refuse(other)


def test_a_run_that_began_without_an_adapter_takes_none(folder):
    assert pin_adapter(StartSettings(), begun=True) == StartSettings()
    with pytest.raises(ConfigError, match="the run began without one; remove the key"):
        pin_adapter(StartSettings(adapter=str(folder)), begun=True)


def test_a_hash_without_a_folder_is_refused():
    with pytest.raises(ConfigError, match="adapter_hash is set, but adapter is not"):
        pin_adapter(StartSettings(adapter_hash="1"), begun=False)


def test_an_empty_adapter_of_a_new_head_alone_is_one(tmp_path):
    head = Adapter({name: factors for name, factors in random_adapter(SHAPES, (2,)).items() if "classifier" in name})
    body = random_adapter({"q": SHAPES["q"]}, (2,))
    written(tmp_path, Adapter({**head, **body}), HEAD, ())
    start = fit_start(read_peft_folder(tmp_path), "x", MODEL)
    assert set(start) == {"classifier.dense", "classifier.out", "q"}
