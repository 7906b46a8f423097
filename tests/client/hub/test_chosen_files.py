"""The files of a repository that are fetched."""

import pytest

from client.hub.chosen_files import is_inside, model_files, row_files

MODEL = ["config.json", "tokenizer.json", "README.md", "LICENSE"]


def test_a_model_has_its_tokenizer_and_one_set_of_weights():
    names = [*MODEL, "model.safetensors", "model.fp16.safetensors", "consolidated.safetensors", "onnx/model.onnx"]
    chosen = model_files(names)
    assert chosen.taken == (*MODEL, "model.safetensors")
    assert chosen.left == {"not read": ("model.fp16.safetensors", "consolidated.safetensors", "onnx/model.onnx")}


def test_shards_come_with_their_index():
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert model_files([*shards, "consolidated.00.safetensors"]).taken == tuple(shards)


def test_an_adapter_is_taken_too():
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert model_files(names).taken == names


def test_pickles_and_code_are_left_out_with_the_reason():
    names = ["config.json", "pytorch_model.bin", "modeling.py", ".gitattributes"]
    assert model_files(names).left == {
        "pickles, which could run code": ("pytorch_model.bin",),
        "code, which is never run": ("modeling.py",),
    }


def test_a_data_set_has_its_rows_in_their_folders():
    names = ["README.md", "data/train-00000-of-00001.parquet", "en/test.jsonl.gz", "load.py", "image.png"]
    chosen = row_files(names)
    assert chosen.taken == tuple(names[:3])
    assert chosen.left == {"code, which is never run": ("load.py",), "not read": ("image.png",)}


@pytest.mark.parametrize(
    "name", ["../a.json", "/etc/a.json", "a/../../b.json", "a//b.json", "C:\\a.json", "a\\..\\b.json"]
)
def test_names_that_lead_elsewhere_are_left_out(name):
    assert not is_inside(name)
    assert model_files([name]).taken == row_files([name]).taken == ()
    assert model_files([name]).left == {"names that lead out of the folder": (name,)}
