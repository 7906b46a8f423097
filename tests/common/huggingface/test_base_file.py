"""`base.toml`: written from a model, read back as the same, and compared with a folder."""

import shutil
from dataclasses import replace

import pytest

from client.check import describe_base
from client.settings import read_node
from common.errors import ConfigError, ModelError
from common.huggingface.base_file import BaseFile, TargetModule, read_base_file, write_base_file
from common.huggingface.model_description import MAX_DIMENSION, MAX_MODULES, ModelDescription
from common.huggingface.new_head import HeadModule
from common.settings.tasks import MULTI, REGRESSION
from simulations.tiny_base import tiny_base
from tests.helpers.client.nodes import write_node

HEAD = (HeadModule("pooler", False, True), HeadModule("classifier", True, True))
MODEL = ModelDescription(
    "f" * 64,
    "classification",
    {"classifier": (3, 8), "pooler": (8, 8), "q": (8, 8), "words": (8, 99)},
    HEAD,
    ("words",),
)
REST = {"name": "model", "targets": ("q", "words"), "labels": ("a", "b", "c"), "max_length": 32}


@pytest.fixture(params=["bert", "roberta", "gpt2", "llama"])
def node(request, tmp_path):
    return read_node(write_node(tmp_path, request.param))


def test_it_is_read_as_it_was_written(tmp_path):
    file = BaseFile.of(MODEL, **REST)
    write_base_file(tmp_path / "base.toml", file)
    assert read_base_file(tmp_path / "base.toml") == file
    assert file.description == MODEL


def test_a_model_is_the_same_in_any_order_and_survives_a_message():
    turned = replace(MODEL, head=HEAD[::-1], shapes=dict(reversed(MODEL.shapes.items())))
    assert turned == MODEL == ModelDescription.from_values(MODEL.to_values())


@pytest.mark.parametrize("targets", ["query-value", "all-linear"])
def test_the_folder_that_it_describes_passes_without_torch(node, targets):
    describe_base(node, targets).check_folder(node.base.path)


@pytest.mark.parametrize("change", ["weights", "tokenizer", "labels", "shape"])
def test_another_folder_is_refused(change, tmp_path):
    node = read_node(write_node(tmp_path, "bert"))
    file, folder = describe_base(node, "query-value"), shutil.copytree(tiny_base("bert"), tmp_path / "base")
    if change == "labels":
        file = replace(file, labels=file.labels[::-1])
    elif change == "shape":
        name = next(name for name, module in file.modules.items() if module.kind == "linear")
        file = replace(file, modules=file.modules | {name: TargetModule((64, 32))})
    else:
        changed = folder / {"weights": "model.safetensors", "tokenizer": "tokenizer.json"}[change]
        data = changed.read_bytes()
        changed.write_bytes(data + b" " if change == "tokenizer" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"\[base\] path = .* has fingerprint"):
        file.check_folder(str(folder))


def test_a_false_shape_is_found_even_where_the_fingerprint_was_made_to_fit(tmp_path, monkeypatch):
    node = read_node(write_node(tmp_path, "bert"))
    file = describe_base(node, "query-value")
    name = next(name for name, module in file.modules.items() if module.kind == "linear")
    false = replace(file, modules=file.modules | {name: TargetModule((MAX_DIMENSION, MAX_DIMENSION))})
    monkeypatch.setattr("common.huggingface.base_file.fingerprint", lambda *args, **rest: false.fingerprint)
    with pytest.raises(ModelError, match="has no matrix"):
        false.check_folder(node.base.path)
    file.check_folder(node.base.path)  # control


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape = [3, 8]", "shape = [3, 0]"),
        ("shape = [3, 8]", f"shape = [3, {MAX_DIMENSION + 1}]"),
        ('task = "classification"', 'task = "classify"'),
        ('kind = "last"', 'kind = "lost"'),
        ("max_length = 32", "max_length = -1"),
        ("[modules.classifier]", "[moduls.classifier]"),
    ],
)
def test_a_wrong_value_is_named(change, message, tmp_path):
    write_base_file(tmp_path / "base.toml", BaseFile.of(MODEL, **REST))
    text = (tmp_path / "base.toml").read_text().replace("[\n    3,\n    8,\n]", "[3, 8]")
    assert change in text
    (tmp_path / "base.toml").write_text(text.replace(change, message))
    with pytest.raises(ConfigError, match=r"base\.toml"):
        read_base_file(tmp_path / "base.toml")


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": {}},
        {"shapes": {f"{n}": (1, 1) for n in range(MAX_MODULES + 1)}, "head": (), "embeddings": ()},
        {"shapes": {"q": (1, MAX_DIMENSION + 1)}, "head": (), "embeddings": ()},
        {"shapes": {"q" * 257: (1, 1)}, "head": (), "embeddings": ()},
        {"fingerprint": "a\x1b[2J"},
        {"fingerprint": "f" * 257},
        {"task": "other"},
        {"embeddings": ("nowhere",)},
    ],
)
def test_a_model_of_no_models_size_is_refused(change):
    with pytest.raises(ValueError, match=r"."):
        replace(MODEL, **change)


@pytest.mark.parametrize("problem", [MULTI, REGRESSION])
def test_found_D12_what_a_row_has_is_read_as_it_was_written_and_survives_a_message(problem, tmp_path):
    model = replace(MODEL, problem_type=problem)
    write_base_file(tmp_path / "base.toml", BaseFile.of(model, **REST, problem_type=problem))
    read = read_base_file(tmp_path / "base.toml").description
    assert read == model == ModelDescription.from_values(model.to_values()) != MODEL
    assert read.parts["problem_type"] == f'"{problem}"'


def test_found_D12_one_class_a_row_is_not_said_as_in_earlier_releases():
    assert "problem_type" not in MODEL.to_values()
    assert "problem_type" not in BaseFile.of(MODEL, **REST).description.parts
    assert replace(MODEL, problem_type=MULTI).to_values()["problem_type"] == MULTI  # control
    with pytest.raises(ValueError, match="problem_type is not a known one"):
        ModelDescription.from_values({**MODEL.to_values(), "problem_type": "other"})
