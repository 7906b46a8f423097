"""The folder of a base model, looked at before any library opens it."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.errors import ModelError
from common.huggingface.base_folder import resolve_base, safetensors_files

CODE = {"AutoModel": "code.Model"}


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a base of one tensor."""
    save_file({"weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    return tmp_path


def write(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_it_has_its_weights(folder):
    write(folder, "modeling_odd.py", "raise RuntimeError")
    write(folder, "tokenizer.json", {"model": {"vocab": {"auto_map": 1, "custom_generate": 2}}})  # tokens, no code
    write(folder, "config.json", {"auto_map": {}, "attn_implementation": "sdpa", "custom_generate": None})
    assert [file.name for file in safetensors_files(folder)] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("config.json", {"auto_map": CODE}, "auto_map"),
        ("config.json", {"auto_map": "code.Model"}, "auto_map"),
        ("config.json", {"parts": [{"vision_config": {"auto_map": CODE}}]}, "auto_map"),
        ("config.json", json.loads('{"a":' * 700 + '{"auto_map": 1}' + "}" * 700), "auto_map"),
        ("config.0.1.0.json", {"auto_map": CODE}, "auto_map"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "a/b--code.Fast"]}}, "auto_map"),
        ("processor_config.json", {"auto_map": CODE}, "auto_map"),
        ("generation_config.json", {"custom_generate": "a/b"}, "custom_generate"),
        ("adapter_config.json", {"auto_mapping": {"parent_library": "code"}}, "auto_mapping"),
        ("config.json", {"_attn_implementation": "a/b"}, "_attn_implementation"),
        ("config.json", {"attn_implementation": {"text_config": "a/b@v1:kernel"}}, "attn_implementation"),
    ],
)
def test_code_that_it_names_is_refused_with_file_key_and_remedy(folder, name, content, key):
    write(folder, name, content)
    with pytest.raises(ModelError) as caught:
        safetensors_files(folder)
    assert str(caught.value).startswith(f"{folder / name} names code to run ({key}), and fedlora runs no code of a")
    assert f"remove {key} from the file in every node's copy, else give another base model" in str(caught.value)


def test_a_generation_of_its_own_is_refused(folder):
    (folder / "custom_generate").mkdir()
    with pytest.raises(ModelError, match=r"custom_generate is code, and fedlora runs no code of a model; remove it"):
        safetensors_files(folder)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\udcff", " " * (33 << 20)])
def test_settings_that_cannot_be_read_are_named(folder, content):
    (folder / "generation_config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=r"generation_config.json cannot be read \(.*\); copy or download it again"):
        safetensors_files(folder)


@pytest.mark.parametrize("name", ["vocab.json", "model-2.safetensors", "templates/a.jinja", "config.json"])
def test_a_pipe_is_refused_at_once(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match=r"it is a pipe, not a file|has no config.json"):
        safetensors_files(folder)


def test_files_may_be_links_as_in_a_cache_of_downloads(folder, tmp_path_factory):
    blob = tmp_path_factory.mktemp("blobs") / "0123"
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(blob)
    assert safetensors_files(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../other.safetensors", "/etc/model.safetensors"])
def test_an_index_names_weights_of_the_folder_only(folder, name):
    write(folder, "model.safetensors.index.json", {"weight_map": {"weight": "model.safetensors"}})
    assert safetensors_files(folder)  # control
    write(folder, "model.safetensors.index.json", {"weight_map": {"weight": "model.safetensors", "bias": name}})
    with pytest.raises(ModelError, match="is none of the folder's safetensors"):
        safetensors_files(folder)


def test_a_path_that_no_system_has_is_named(folder):
    with pytest.raises(ModelError, match=r"\[base\] path = 'a\\x00b' has a NUL"):
        resolve_base("a\0b")
    assert resolve_base(str(folder)) == folder  # control
