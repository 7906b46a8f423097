import json
import shutil
import struct

import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel

from client.model.base_model import load_base
from client.model.lora import Lora
from common.errors import ModelError
from common.huggingface.fingerprint import base_hash, fingerprint, tokenizer_hash
from simulations.tiny_base import tiny_base

SHAPES = {"q": (4, 3), "v": (2, 3)}
SAME = {"shapes": SHAPES, "task": "classification", "labels": ("a", "b"), "max_length": 64}
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    """Return a copy of a tiny base that a test may damage."""
    return shutil.copytree(tiny_base("bert"), tmp_path / "base")


def test_a_copy_has_the_same_fingerprint(folder):
    assert fingerprint(folder, **SAME) == fingerprint(tiny_base("bert"), **SAME)


def test_how_tensors_are_spread_over_files_does_not_matter(tmp_path):
    model = AutoModel.from_pretrained(tiny_base("bert"))
    for name, size in (("whole", "1GB"), ("sharded", "40KB")):
        model.save_pretrained(tmp_path / name, max_shard_size=size)
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    assert base_hash(tmp_path / "sharded") == base_hash(tmp_path / "whole") == base_hash(tiny_base("bert"))


def test_one_flipped_bit_of_a_weight_changes_it(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    assert base_hash(folder) != base_hash(tiny_base("bert"))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {f"{name}x": tensor for name, tensor in tensors.items()},
        lambda tensors: {name: tensor.reshape(-1) for name, tensor in tensors.items()},
        lambda tensors: {name: tensor.view("i4") for name, tensor in tensors.items()},
        lambda tensors: dict(list(tensors.items())[1:]),
    ],
    ids=["names", "shapes", "types", "one less"],
)
def test_names_shapes_and_types_of_the_same_bytes_count_too(change, folder):
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    assert base_hash(folder) != base_hash(tiny_base("bert"))


def test_metadata_and_order_in_the_file_do_not(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file(dict(reversed(list(tensors.items()))), folder / WEIGHTS, metadata={"made by": "another tool"})
    assert base_hash(folder) == base_hash(tiny_base("bert"))


def test_the_stored_type_matters(tmp_path):
    AutoModel.from_pretrained(tiny_base("bert")).bfloat16().save_pretrained(tmp_path)
    assert base_hash(tmp_path) != base_hash(tiny_base("bert"))


def test_the_type_it_is_loaded_in_does_not(folder):
    def of(dtype):
        base = load_base(str(folder), "classification", ("a", "b"), dtype, "cpu").skeleton()
        assert base.model.dtype == getattr(torch, dtype)
        lora = Lora(base.model, ["bert.encoder.layer.0.attention.self.query"])
        return fingerprint(base.folder, lora.shapes, base.task, ("a", "b"), 64)

    assert of("float32") == of("bfloat16")


@pytest.mark.parametrize(
    "other",
    [
        {"shapes": {"q": (4, 3)}},
        {"shapes": {"q": (4, 3), "v": (3, 2)}},
        {"shapes": {"q": (4, 3), "w": (2, 3)}},
        {"task": "causal-lm"},
        {"labels": ("b", "a")},
        {"labels": ("a", "b", "c")},
        {"max_length": 65},
    ],
)
def test_whoever_trains_something_else_has_another(other):
    assert fingerprint(tiny_base("bert"), **SAME | other) != fingerprint(tiny_base("bert"), **SAME)


def test_another_tokenizer_changes_it_but_not_the_hash_of_the_base(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"][0]["content"] += "x"
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert tokenizer_hash(folder) != tokenizer_hash(tiny_base("bert"))
    assert base_hash(folder) == base_hash(tiny_base("bert"))
    assert fingerprint(folder, **SAME) != fingerprint(tiny_base("bert"), **SAME)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere does not exist; set \[base\] path to a local Hugging Face folder"):
        base_hash(tmp_path / "nowhere")


def test_a_folder_that_is_no_model_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config.json; \[base\] path must be a Hugging Face model folder"):
        base_hash(folder)


def test_pickled_weights_are_refused_by_name(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pytorch_model.bin, a pickle that could run code; save the model with"):
        base_hash(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"contains no weights; save the model with save_pretrained"):
        base_hash(folder)


@pytest.mark.parametrize("share", [0, 0.00001, 0.001, 0.5, 0.99999])
def test_a_truncated_file_is_refused(share, folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: int(share * len(data))])
    with pytest.raises(
        ModelError, match=rf"{WEIGHTS} is not a complete safetensors file .*; copy or download it again"
    ):
        base_hash(folder)


def _entry(**changes):
    return json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}).encode()


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 9999,
        b'{"x": 1}',
        _entry(data_offsets=[-4, 0]),
        _entry(shape=[9]),
        _entry(dtype="?"),
    ],
)
def test_a_nonsense_header_is_refused(header, folder):
    with pytest.raises(ModelError, match=WEIGHTS):
        _hash_of(folder, header)


def test_a_sound_header_over_the_same_bytes_is_not(folder):
    assert len(_hash_of(folder, _entry())) == 64


def _hash_of(folder, header):
    """Return the hash of a file of this header and four bytes of data."""
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return base_hash(folder)
