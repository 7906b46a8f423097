"""Found by attack: a base model whose folder names code; nothing of the folder runs or asks, whatever the command."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from client.model.base_model import load_base
from simulations.gguf_base import gguf_base
from tests.helpers.client.code import SPOILS, with_code
from tests.helpers.client.nodes import write_node
from tests.helpers.end_to_end.command import ROOT, TINY, call, refusal, settings
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.simulations.gguf import WIDTH, write_gguf
from tests.helpers.simulations.requirements import needs_packages
from tests.helpers.simulations.runs import BRIEF, run_tiny

LANGUAGE = ("data.task=causal-lm", "clients.partition=iid", "base.path=tiny:gpt2")
USES = {
    "evaluate": ("evaluate", "RUN"),
    "export": ("export", "RUN", "OUT"),
    "merge": ("merge", "RUN", "OUT"),
    "generate": ("generate", "RUN", "--prompt", "a b c"),
}


@pytest.fixture(autouse=True)
def nobody_asks(monkeypatch):
    """Whoever is asked answers yes, and the test fails."""
    asked = []
    monkeypatch.setattr("builtins.input", lambda *question: asked.append(question) or "y")
    yield
    assert asked == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("finished"), *BRIEF, *LANGUAGE)


def refused(ended, base):
    """Check that a command refused the base in our words, and that its code did not run."""
    message = refusal(ended)
    assert str(base) in message
    assert "trust_remote_code" not in message
    assert "fedlora runs no code of a model" in message
    assert not (base.parent / "RAN").exists()


@pytest.mark.parametrize("spoil", SPOILS)
def test_found_S20_a_node_reads_no_base_that_names_code(spoil, tmp_path):
    base = with_code("gpt2", tmp_path / "base", SPOILS[spoil])
    refused(call("client", write_node(tmp_path, base=str(base)), "--check"), base)


def test_found_S20_code_that_nothing_names_is_no_fault_and_does_not_run(tmp_path):
    base = with_code("gpt2", tmp_path / "base")
    assert call("client", write_node(tmp_path, base=str(base)), "--check").status == 0
    assert not (tmp_path / "RAN").exists()


def test_found_S20_control_the_code_would_run_if_it_were_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    base = with_code("gpt2", tmp_path / "base", SPOILS["a model of unknown type"])
    AutoModelForCausalLM.from_pretrained(base, trust_remote_code=True)
    assert (tmp_path / "RAN").exists()


@pytest.mark.parametrize("spoil", ["a model of unknown type", "a tokenizer", "a generation"])
def test_found_S20_a_yes_at_the_terminal_changes_nothing(spoil, tmp_path):
    base = with_code("gpt2", tmp_path / "base", SPOILS[spoil])
    words = map(str, (sys.executable, ROOT / "fedlora.py", "client", write_node(tmp_path, base=str(base)), "--check"))
    ended = subprocess.run([*words], input="y\n" * 1000, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, "run no code" in ended.stderr or "runs no code" in ended.stderr) == (2, True)
    assert "y/N" not in ended.stdout + ended.stderr
    assert not (tmp_path / "RAN").exists()


def test_found_S20_a_simulation_reads_no_base_that_names_code(tmp_path):
    base = with_code("gpt2", tmp_path / "base", SPOILS["a model of unknown type"])
    ended = call("simulate", TINY, "--out", tmp_path / "runs", *settings(*BRIEF, *LANGUAGE, f"base.path={base}"))
    refused(ended, base)
    assert not (tmp_path / "runs").exists()


@needs_packages("gguf", "accelerate")
@pytest.mark.parametrize("spoil", ["a model of unknown type", "a tokenizer of unknown class", "a generation"])
def test_found_S20_what_lies_beside_a_gguf_file_is_not_read(spoil, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLORA_CACHE", str(tmp_path / "cache"))
    beside = with_code("gpt2", tmp_path / "beside", SPOILS[spoil])
    write_gguf(beside / "own.gguf")
    made = gguf_base(str(beside / "own.gguf"))
    assert load_base(str(made), "causal-lm", (), "float32", "cpu").model.config.hidden_size == WIDTH
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("spoil", ["a model of known type", "a tokenizer", "a generation"])
@pytest.mark.parametrize("use", USES)
def test_found_S20_no_user_of_a_run_reads_a_base_that_names_code(use, spoil, finished, tmp_path):
    run, base = shutil.copytree(finished, tmp_path / "run"), with_code("gpt2", tmp_path / "base", SPOILS[spoil])
    test = run / "test.toml"
    test.write_text(re.sub(r'(?m)^base = ".*"$', f'base = "{base}"', test.read_text()))
    places = {"RUN": run, "OUT": tmp_path / "out"}
    refused(call(*(places.get(word, word) for word in USES[use])), base)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoil", ["a model of known type", "a tokenizer"])
def test_found_S20_a_server_reads_no_base_that_names_code(spoil, tmp_path):
    base = with_code("gpt2", tmp_path / "base", SPOILS[spoil])
    project = NumpyProject(tmp_path / "project", base={"file": "base.toml", "path": str(base)})
    project.admit("ada")
    refused(call("server", project.file), base)


def test_found_S20_weights_of_an_index_are_the_folders_own(tmp_path):
    base = with_code("gpt2", tmp_path / "base")
    (base / "model.safetensors").rename(base / "model-1.safetensors")
    index = base / "model.safetensors.index.json"
    for name in ("pytorch_model.bin", "../model.safetensors"):
        index.write_text(f'{{"metadata": {{}}, "weight_map": {{"transformer.wte.weight": "{name}"}}}}')
        message = refusal(call("client", write_node(tmp_path, base=str(base)), "--check"))
        assert f"names '{name}', which is none of the folder's safetensors" in message


@pytest.mark.parametrize("name", ["preprocessor_config.json", "vocab.json", "additional_chat_templates/a.jinja"])
def test_found_S22_a_pipe_in_the_folder_of_a_base_is_refused_at_once(name, tmp_path):
    base = with_code("gpt2", tmp_path / "base")
    (base / name).parent.mkdir(exist_ok=True)
    Path(base / name).unlink(missing_ok=True)
    os.mkfifo(base / name)
    message = refusal(call("client", write_node(tmp_path, base=str(base)), "--check"))
    assert f"{base / name} cannot be in the folder of a base model: it is a pipe, not a file" in message


@pytest.mark.parametrize("use", ["a node", "a simulation"])
@pytest.mark.parametrize("task", ["causal-lm", "classification"])
def test_found_B15_a_base_that_names_code_is_refused_with_file_key_reason_and_remedy(use, task, tmp_path):
    base = with_code("gpt2", tmp_path / "base", SPOILS["a model of known type"])
    words = settings(*BRIEF, *LANGUAGE, f"data.task={task}", f"base.path={base}")
    asked = {
        "a node": ("client", write_node(tmp_path, base=str(base), task=task), "--check"),
        "a simulation": ("simulate", TINY, "--out", tmp_path / "runs", *words),
    }
    message = refusal(call(*asked[use]))
    assert f"{base / 'config.json'} names code to run (auto_map), and fedlora runs no code of a model" in message
    assert "remove auto_map from the file in every node's copy, else give another base model" in message
    assert not (tmp_path / "RAN").exists()


def test_found_B5_an_adapter_of_another_base_is_not_loaded(tmp_path):
    base = with_code("gpt2", tmp_path / "base")
    noted = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path)}
    (base / "adapter_config.json").write_text(json.dumps(noted))
    assert call("client", write_node(tmp_path, base=str(base)), "--check").status == 0
