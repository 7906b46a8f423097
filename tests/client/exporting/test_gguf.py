"""A LoRA file for llama.cpp (client/exporting/gguf_file.py, gguf_layout.py), read back with the `gguf` package."""

import json

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM

from client.exporting.gguf_file import FILE
from client.exporting.gguf_layout import ARCHITECTURES, Heads, architecture_of, to_layout
from client.finished.run import load_run
from client.model.lora import frozen_lane
from common.adapters.adapter import Adapter
from common.errors import ModelError
from common.huggingface.peft_folder import read_peft_folder
from tests.client.conftest import BRIEF
from tests.helpers.client.exporting import exported
from tests.helpers.client.saved import node_folder
from tests.helpers.common.models import random_factors
from tests.helpers.end_to_end.command import call, refusal
from tests.helpers.simulations.gguf import write_gguf
from tests.helpers.simulations.runs import run_tiny, write_recipe

LLAMA = {
    f"blk.{layer}.{short}.weight": f"model.layers.{layer}.{name}"
    for layer in range(2)
    for short, name in {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "ffn_down": "mlp.down_proj",
    }.items()
}
GPT2 = {
    f"blk.{layer}.{short}.weight": f"transformer.h.{layer}.{name}"
    for layer in range(2)
    for short, name in {
        "attn_qkv": "attn.c_attn",
        "attn_output": "attn.c_proj",
        "ffn_up": "mlp.c_fc",
        "ffn_down": "mlp.c_proj",
    }.items()
}
ROTATED = {"attn_q": 4, "attn_k": 2}
"""Heads of the tensors whose rows a Llama file has in another order."""


def contents(file):
    """Return the keys of the file that the format asks for, and its tensors."""
    reader = GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return fields, {tensor.name: tensor.data for tensor in reader.tensors}


def unordered(update, heads):
    """Put rows of pairs (i, i + half) that lie side by side back into halves, one by one."""
    out, size = np.empty_like(update), len(update) // heads
    for head in range(heads):
        for i in range(size // 2):
            for part in range(2):
                out[head * size + part * size // 2 + i] = update[head * size + 2 * i + part]
    return out


def updates(tensors, alpha, rotated):
    """Return each dW, by llama.cpp's name, in the order of a Hugging Face folder."""
    found = {}
    for name in {key.rpartition(".")[0] for key in tensors}:
        a, b = (tensors[f"{name}.lora_{side}"].astype("f8") for side in "ab")
        update = alpha / len(a) * b @ a
        heads = rotated.get(name.split(".")[2])
        found[name] = unordered(update, heads) if heads else update
    return found


@pytest.mark.parametrize(("kind", "names"), [("llama", LLAMA), ("gpt2", GPT2)])
@pytest.mark.parametrize("rank", [None, 3])
def test_the_file_has_the_updates_of_the_run(run_of, wide, tmp_path, kind, names, rank):
    run = wide if kind == "llama" else run_of("gpt2")
    exported(run, tmp_path / "out", form="gguf", rank=rank)
    exported(run, tmp_path / "peft", rank=rank)
    fields, tensors = contents(tmp_path / "out" / FILE)
    alpha = 32 if rank is None and kind == "llama" else len(next(iter(tensors.values()))) if rank is None else rank
    assert fields == {
        "general.architecture": kind,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
    }
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float32")}
    found = updates(tensors, alpha, ROTATED if kind == "llama" else {})
    expected = load_run(run).adapter if rank is None else read_peft_folder(tmp_path / "peft").adapter
    assert {names[name] for name in found} == expected.keys()
    for name, update in found.items():
        factors = expected[names[name]].astype("f8")
        np.testing.assert_allclose(update, factors.b @ factors.a, rtol=1e-6, atol=1e-8)


def test_rows_of_queries_and_keys_are_in_another_order_in_the_file(wide, tmp_path):
    """Negative control: read in the order of the file, these four updates are not the run's, and the others are."""
    exported(wide, tmp_path / "out", form="gguf")
    found = updates(contents(tmp_path / "out" / FILE)[1], 32, {})
    run = load_run(wide).adapter.astype("f8")
    apart = {n for n, update in found.items() if not np.allclose(update, run[LLAMA[n]].b @ run[LLAMA[n]].a, atol=1e-8)}
    assert apart == {f"blk.{layer}.attn_{part}.weight" for layer in range(2) for part in "qk"}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_linear_module_of_a_known_architecture_has_a_tensor(model_type):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, pad_token_id=0, **sizes))
    kinds = ("Linear", "Conv1D")
    names = [n for n, m in model.named_modules() if type(m).__name__ in kinds and n != "lm_head"]
    random = np.random.default_rng(0)
    adapter = Adapter({name: random_factors(random, (8, 6), 2) for name in names})
    layout = to_layout(adapter, architecture_of(model_type), 2, Heads(4, 2))
    assert len(layout) == len(names) >= 8
    assert all(name.startswith("blk.") for name in layout)


def test_an_architecture_of_another_layout_is_refused_with_the_remedy():
    with pytest.raises(ModelError, match=r"and the base model is a bloom; export with --format merged, and convert"):
        architecture_of("bloom")


def test_a_module_that_llama_cpp_lacks_is_named():
    adapter = Adapter({"model.layers.0.self_attn.own": random_factors(np.random.default_rng(0), (8, 6), 2)})
    with pytest.raises(ModelError, match=r"llama.cpp's llama has no tensor for module model.layers.0.self_attn.own"):
        to_layout(adapter, architecture_of("llama"), 2, Heads(4, 2))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bert", "classifier is a classification head, which an adapter for llama.cpp cannot hold; export with"),
        ("gpt2 words", "transformer.wte is an embedding, and llama.cpp fits its adapter to the output layer too"),
    ],
)
def test_what_an_adapter_for_llama_cpp_cannot_hold_is_refused(run_of, tmp_path, kind, reason):
    assert f"--format gguf: {reason}" in refusal(call("export", run_of(kind), tmp_path / "out", "--format", "gguf"))
    assert not (tmp_path / "out").exists()


def test_without_the_package_the_extra_is_named(wide, tmp_path, monkeypatch):
    monkeypatch.setattr("client.exporting.gguf_file.find_spec", lambda name: None)
    message = refusal(call("export", wide, tmp_path / "out", "--format", "gguf"))
    assert "--format gguf needs the package gguf; run: pip install 'fedlora[gguf]'" in message


@pytest.mark.slow
def test_llama_cpp_computes_the_logits_of_the_run(tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed; it compiles for minutes")
    base = tmp_path / "base.gguf"
    write_gguf(base)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"cow {n} by barn {n % 7}"}) + "\n" for n in range(120)))
    recipe = write_recipe(tmp_path, rows, task="causal-lm", max_length=48)
    rest = ("clients.partition=iid", f"base.path={base}", "lora.targets=all-linear")
    run = run_tiny(tmp_path / "runs", *BRIEF, *rest, recipe=recipe)
    exported(run, tmp_path / "out", form="gguf")
    ids = [257, *range(20, 50)]
    alone, adapted = (llama_logits(llama_cpp, base, ids, file) for file in (None, tmp_path / "out" / FILE))
    expected = logits_of_ids(run, ids)
    effect = np.abs(expected - alone).max()
    assert effect > 0.05  # control
    assert np.abs(expected - adapted).max() < 0.02 * effect


def llama_logits(llama_cpp, base, ids, adapter):
    """Return llama.cpp's logits at every token of a row."""
    lora = str(adapter) if adapter else None
    model = llama_cpp.Llama(str(base), lora_path=lora, logits_all=True, n_ctx=64, n_threads=1, verbose=False)
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


@torch.no_grad()
def logits_of_ids(run, ids):
    trained = load_run(run)
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(trained.adapter)]
    found = skeleton.model(input_ids=torch.tensor([ids])).logits[0].numpy()
    lora.lanes = ()
    return found


def test_a_nodes_own_folder_gives_the_same_file(wide, tmp_path):
    for name, run in (("node", node_folder(tmp_path / "nodes", wide)), ("run", wide)):
        ended = call("export", run, tmp_path / name, "--format", "gguf", "--base-name", "org/base")
        assert ended.status == 0, ended.err
    assert (tmp_path / "node" / FILE).read_bytes() == (tmp_path / "run" / FILE).read_bytes()
