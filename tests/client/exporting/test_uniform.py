"""One rank for every module (client/exporting/uniform.py), as each program scales it."""

import json

import numpy as np
from peft import PeftModel
from safetensors.numpy import load_file

from client.exporting.uniform import pad
from client.finished.run import load_run
from common.adapters.adapter import Adapter, zeros
from common.huggingface.peft_folder import read_peft_folder
from tests.helpers.client.exporting import exported
from tests.helpers.client.outputs import gap, logits_of, plain_base, run_logits


def scale_in_llama_cpp(alpha, a):
    """llama_adapter_lora_weight::get_scale, at an adapter scale of 1."""
    return alpha / a.shape[0]


def updates(folder, scale):
    """Return each module's dW as a program reads it that scales all by the one alpha."""
    tensors = load_file(folder / "adapter_model.safetensors")
    alpha = json.loads((folder / "adapter_config.json").read_text())["lora_alpha"]
    names = {key.partition(".lora_")[0] for key in tensors}
    found = {}
    for name in names:
        a, b = (tensors[f"{name}.lora_{side}.weight"].astype("f8") for side in "AB")
        found[name.removeprefix("base_model.model.")] = scale(alpha, a) * b @ a
    return found


def dense(adapter: Adapter):
    return {name: factors.astype("f8").b @ factors.astype("f8").a for name, factors in adapter.items()}


def apart(one, other):
    """Return the names of the modules whose dW differ."""
    assert one.keys() == other.keys()
    return {name for name, update in one.items() if not np.allclose(update, other[name], rtol=1e-6, atol=1e-9)}


def test_found_A5_one_rank_for_all_modules_gives_llama_cpp_and_vllm_the_updates_of_the_run(wide, tmp_path):
    exported(wide, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 32
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    assert not config.get("use_rslora")
    run = dense(load_run(wide).adapter)
    assert apart(updates(tmp_path / "out", scale_in_llama_cpp), run) == set()
    assert apart(updates(tmp_path / "out", lambda alpha, a: alpha / config["r"]), run) == set()
    narrow = {name for name in run if name.endswith(("k_proj", "v_proj"))}
    assert apart(updates(wide / "adapter", scale_in_llama_cpp), run) == narrow  # control: these were doubled


def test_found_A5_peft_takes_factors_of_more_rows_than_the_matrix_has(wide, tmp_path):
    exported(wide, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert tensors["base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight"].shape == (16, 32)
    model = PeftModel.from_pretrained(plain_base(wide), tmp_path / "out")
    assert gap(logits_of(model, wide), run_logits(wide)) < 1e-5


def test_what_a_smaller_rank_leaves_out_is_told(wide, tmp_path):
    lines = exported(wide, tmp_path / "out", rank=4)
    run, cut = load_run(wide).adapter, read_peft_folder(tmp_path / "out").adapter
    whole, small = dense(run), dense(cut)
    lost = {name: np.linalg.norm(whole[name] - small[name]) / np.linalg.norm(whole[name]) for name in whole}
    worst = max(lost, key=lost.get)
    missed = np.sqrt(sum(np.linalg.norm(whole[name] - small[name]) ** 2 for name in whole))
    error = missed / np.sqrt(sum(np.linalg.norm(update) ** 2 for update in whole.values()))
    told = f"relative error of rank 4: {error:.2e} over all modules, {lost[worst]:.2e} in the worst, {worst}"
    assert lines == ["8 modules, rank 4", told, f"peft: {tmp_path / 'out'}"]
    assert lost[worst] > 1e-3
    assert all(factors.rank == 4 for factors in cut.values())


def test_an_update_of_zeros_is_an_adapter_that_changes_nothing(wide, tmp_path):
    adapter = pad(zeros(load_run(wide).adapter.shapes))
    assert {factors.rank for factors in adapter.values()} == {1}
    assert not any(update.any() for update in dense(adapter).values())
