"""Found by use: folders that are not whole are refused with the file or tensor that is at fault."""

import json

import pytest
from safetensors.torch import load_file, save_file

from common.errors import ModelError
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import copied, loaded

LAYER = {
    "llama": "model.layers.0.mlp.up_proj.weight",
    "bert": "encoder.layer.1.attention.self.query.weight",
    "gpt2": "transformer.h.1.ln_1.weight",
}


def without(folder, name):
    tensors = load_file(folder / "model.safetensors")
    assert any(key.endswith(name) for key in tensors)
    kept = {key: tensor for key, tensor in tensors.items() if not key.endswith(name)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("task", ["classification", "causal-lm"])
@pytest.mark.parametrize("kind", LAYER)
def test_found_B6_a_tensor_of_a_layer_that_is_missing_is_named_and_no_new_head(kind, task, tmp_path):
    if (kind, task) == ("bert", "causal-lm"):
        pytest.skip("an encoder")
    folder = without(copied(kind, tmp_path / "base"), LAYER[kind])
    with pytest.raises(ModelError, match=rf"lacks the tensor \S*{LAYER[kind]}, which its config.json asks for; copy"):
        loaded(folder, task)
    assert loaded(tiny_base(kind), task)  # control


def test_found_B9_a_tensor_of_another_shape_is_named(tmp_path):
    folder = copied("llama", tmp_path / "base", intermediate_size=96)
    with pytest.raises(ModelError, match=r"model\.layers\.\d\.mlp\.\w+\.weight has another shape than config"):
        loaded(folder, "causal-lm")


@pytest.mark.parametrize("cut", [100, None])
def test_found_B6_a_file_that_is_not_whole_is_named(cut, tmp_path):
    file = copied("llama", tmp_path / "base") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-cut] if cut else b"")
    with pytest.raises(ModelError, match=r"model\.safetensors is not a complete safetensors file .*; copy it again"):
        loaded(file.parent, "causal-lm")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: (folder / "config.json").write_text("[]"),
            "config.json is not a JSON object; copy or",
        ),
        (lambda folder: (folder / "model.safetensors").rename(folder / "x.gguf"), "only x.gguf; in a recipe, set"),
    ],
)
def test_found_B6_a_folder_of_another_kind_is_told_what_to_do(spoil, said, tmp_path):
    folder = copied("llama", tmp_path / "base")
    spoil(folder)
    with pytest.raises(ModelError, match=said):
        loaded(folder, "causal-lm")


def test_found_B6_a_file_in_place_of_a_folder_and_a_name_of_a_hub_are_told_apart(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({}))
    with pytest.raises(ModelError, match=r"model\.json is a file; set \[base\] path"):
        loaded(tmp_path / "model.json")
    with pytest.raises(ModelError, match=r"org/name does not exist; set .*`fedlora fetch NAME`"):
        loaded("org/name")
