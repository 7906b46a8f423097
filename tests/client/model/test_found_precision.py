"""Found by use: a checkpoint in 16 bits is held as it is stored, where the device has units for that."""

import logging

import pytest
import tomli_w
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from client.model import precision
from client.model.base_model import load_base
from client.model.precision import find_device, find_dtype, stored_dtype
from common.errors import ModelError
from common.settings.reader import read_toml
from common.settings.recipe import Recipe
from common.settings.resume import config_hash
from simulations.recipe import read_recipe
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import copied
from tests.helpers.end_to_end.command import TINY, call, settings
from tests.helpers.simulations.runs import BRIEF


@pytest.fixture(params=["bfloat16", "float16"])
def stored(request, tmp_path):
    """Return the folder of a base in 16 bits, and its type."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base("llama"), dtype=request.param)
    model.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_base("llama")).save_pretrained(tmp_path / "base")
    return tmp_path / "base", getattr(torch, request.param)


def units(monkeypatch, present):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: present, raising=False)
    monkeypatch.setattr(precision, "_CPU_FEATURES", precision.Path("/nowhere"))


@pytest.mark.parametrize("present", [True, False])
def test_found_B12_auto_is_the_checkpoints_type_where_the_cpu_has_units_for_it(stored, present, monkeypatch, caplog):
    folder, dtype = stored
    units(monkeypatch, present)
    with caplog.at_level(logging.WARNING):
        base = load_base(str(folder), "causal-lm", (), "auto", "cpu")
    as_stored = present and dtype == torch.bfloat16
    assert base.model.dtype == (dtype if as_stored else torch.float32)
    assert ("held in float32, twice the size: cpu has no units for" in caplog.text) == (not as_stored)


def test_found_B12_a_base_in_float32_stays_so_and_nothing_is_said(caplog):
    assert load_base(str(tiny_base("llama")), "causal-lm", (), "auto", "cpu").model.dtype == torch.float32
    assert "held in" not in caplog.text


def test_found_B12_auto_and_the_type_that_it_is_are_one_model_in_memory(stored, monkeypatch):
    units(monkeypatch, False)
    loads = [load_base(str(stored[0]), "causal-lm", (), dtype, "cpu") for dtype in ("auto", "float32")]
    assert loads[0] is loads[1]


def test_found_B12_a_run_with_auto_merges_in_the_checkpoints_type(stored, tmp_path):
    folder, dtype = stored
    words = settings(*BRIEF, f"base.path={folder}", "base.dtype=auto", "data.task=causal-lm", "clients.partition=iid")
    assert call("simulate", TINY, "--out", tmp_path, "--name", "run", *words).status == 0
    assert read_toml(tmp_path / "run" / "test.toml")["dtype"] == "auto"
    assert call("merge", tmp_path / "run", tmp_path / "merged").status == 0
    assert stored_dtype(tmp_path / "merged") == dtype


def test_found_B12_a_file_without_the_key_means_what_it_meant(tmp_path):
    recipe = read_recipe(TINY, [])
    assert recipe.base.dtype == "float32"
    tables = read_toml(TINY)
    (tmp_path / "r.toml").write_text(tomli_w.dumps(tables | {"base": tables["base"] | {"dtype": "float32"}}))
    assert config_hash(read_recipe(tmp_path / "r.toml", [])) == config_hash(recipe)
    assert isinstance(recipe, Recipe)


def test_found_B12_a_damaged_checkpoint_is_named(tmp_path):
    folder = copied("bert", tmp_path / "base")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"model.safetensors is not a complete safetensors file"):
        find_dtype(folder, "auto", "cpu")


def test_found_B12_an_apple_gpu_comes_after_cuda_and_before_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto") == "cuda"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"device = 'mps' .* has no Apple GPU; use auto or cpu"):
        find_device("mps")
