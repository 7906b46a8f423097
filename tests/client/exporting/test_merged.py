"""`--format merged` and `fedlora merge`: one way, and the checkpoint's own numbers by default."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from client.finished.run import load_run
from tests.helpers.end_to_end.command import call


@pytest.fixture(scope="module")
def low(wide, tmp_path_factory):
    """Return the run with a base whose checkpoint is in bfloat16, which the node loads in float32."""
    folder = tmp_path_factory.mktemp("low")
    base = load_run(wide).base.folder
    shutil.copytree(base, folder / "base")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(folder / "base")
    run = shutil.copytree(wide, folder / "run")
    file = run / "test.toml"
    file.write_text(file.read_text().replace(str(base), str(folder / "base")))
    return run


@pytest.mark.parametrize(("words", "dtype"), [((), torch.bfloat16), (("--dtype", "float32"), torch.float32)])
def test_a_merged_model_has_the_numbers_of_the_checkpoint_or_those_asked_for(low, tmp_path, words, dtype):
    ended = call("export", low, tmp_path / "exported", "--format", "merged", *words)
    assert ended.status == 0
    assert ended.out.startswith(f"{dtype}; largest logit gap to base + adapter: ".removeprefix("torch."))
    tensors = load_file(tmp_path / "exported" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    assert call("merge", low, tmp_path / "merged", *words).status == 0
    files = sorted(file.name for file in (tmp_path / "merged").iterdir())
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    for name in files:
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "exported" / name).read_bytes()
