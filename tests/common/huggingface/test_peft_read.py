import copy
import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.numpy import load_file, save_file

from client.model.lora import Lora
from common.errors import ModelError
from common.huggingface.peft_config import CONFIG
from common.huggingface.peft_folder import WEIGHTS, read_peft_folder, write_peft_folder
from tests.helpers.common.models import adapted_logits, load, logits, random_adapter

FOREIGN = {
    "alpha over r": {"lora_alpha": 12},
    "rsLoRA": {"lora_alpha": 12, "use_rslora": True},
    "ranks by module": {"rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 3}, "lora_alpha": 6},
    "alpha by module": {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"0.self_attn.v_proj": 9}, "lora_alpha": 6},
    "first pattern wins": {"rank_pattern": {"0.self_attn.q_proj": 3, "q_proj": 2}},
    "an embedding": {"target_modules": ["embed_tokens", "q_proj"], "lora_alpha": 12},
    "gaussian start": {"init_lora_weights": "gaussian"},
}


def _foreign(folder, kind="llama", task="causal-lm", dtype=torch.float32, **settings):
    """Let PEFT itself write a folder of random factors; return the base and PEFT's outputs with it."""
    base = load(kind, task)
    names = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | settings
    model = get_peft_model(base.skeleton().model, LoraConfig(**names))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(
                    torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))).to(dtype)
                )
    expected = logits(model)
    model.to(dtype).save_pretrained(folder)
    return base, expected


def _ours(base, read):
    model = copy.deepcopy(base.model)  # a skeleton shares its tensors with every other test of this process
    model.load_state_dict({name: torch.tensor(t) for name, t in read.saved.items()}, strict=False)
    return adapted_logits(Lora(model, read.adapter), read.adapter)


@pytest.mark.parametrize("settings", FOREIGN.values(), ids=FOREIGN)
def test_an_adapter_of_peft_gives_its_logits(settings, tmp_path):
    base, expected = _foreign(tmp_path, **settings)
    torch.testing.assert_close(_ours(base, read_peft_folder(tmp_path)), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(base.model), expected, atol=1e-2)


def test_a_wrong_scale_would_show(tmp_path):
    base, expected = _foreign(tmp_path, lora_alpha=12, use_rslora=True)
    _edit(tmp_path, use_rslora=False)
    assert not torch.allclose(_ours(base, read_peft_folder(tmp_path)), expected, atol=1e-2)


def test_bfloat16_factors_come_back_as_float32(tmp_path):
    _foreign(tmp_path, dtype=torch.bfloat16)
    assert load_file(tmp_path / WEIGHTS).popitem()[1].dtype.name == "bfloat16"
    assert all(f.a.dtype == f.b.dtype == np.float32 for f in read_peft_folder(tmp_path).adapter.values())


def test_a_saved_head_comes_back_whole(tmp_path):
    base, expected = _foreign(tmp_path, "bert", "classification", target_modules=["query"], task_type="SEQ_CLS")
    read = read_peft_folder(tmp_path)
    assert set(read.saved) == {"classifier.weight", "classifier.bias"}
    torch.testing.assert_close(_ours(base, read), expected, rtol=1e-5, atol=1e-5)


def test_a_base_embedding_in_the_folder_comes_back_under_its_own_name(tmp_path):
    """PEFT stores the base embedding too when it is a target."""
    base, _ = _foreign(tmp_path, target_modules=["embed_tokens"])
    saved = read_peft_folder(tmp_path).saved
    np.testing.assert_array_equal(saved.pop("model.embed_tokens.weight"), base.model.model.embed_tokens.weight)
    assert not saved


def _edit(folder, **settings):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | settings))


@pytest.fixture
def small(tmp_path):
    """Write a folder with one module."""
    write_peft_folder(tmp_path, random_adapter({"x": (4, 3)}, (2,)), (), "base", "causal-lm")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("bias", "all"),
        ("init_lora_weights", "pissa"),
        ("r", 0),
        ("lora_alpha", "much"),
        ("lora_alpha", None),
        ("rank_pattern", {"(": 2}),
        ("use_dora", True),
        ("lora_bias", True),
        ("layer_replication", [[0, 2]]),
        ("alora_invocation_tokens", [1, 2]),
        ("kasa_config", {"beta": 1}),
    ],
)
def test_a_setting_that_is_not_plain_lora_is_refused_by_name(key, value, small):
    read_peft_folder(small)
    _edit(small, **{key: value})
    with pytest.raises(ModelError, match=rf"(?s){CONFIG}.*{key}.*(train or convert|add it)"):
        read_peft_folder(small)


def test_real_dora_is_refused(tmp_path):
    _foreign(tmp_path, use_dora=True)
    with pytest.raises(ModelError, match="use_dora = True"):
        read_peft_folder(tmp_path)


def test_real_prompt_tuning_is_refused(tmp_path):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(load("llama", "causal-lm").model, config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"peft_type.*PROMPT_TUNING"):
        read_peft_folder(tmp_path)


def _retensor(folder, change):
    tensors = load_file(folder / WEIGHTS)
    save_file(change(tensors), folder / WEIGHTS)


X = "base_model.model.x"
DAMAGE = {
    "lacks its lora_B": lambda t: {f"{X}.lora_A.weight": t[f"{X}.lora_A.weight"]},
    "not a LoRA factor": lambda t: t | {f"{X}.lora_magnitude_vector": np.ones(4, "f4")},
    "is not a product": lambda t: t | {f"{X}.lora_B.weight": np.ones((4, 5), "f4")},
    "not a product of matrices": lambda t: {key: v[..., None, None] for key, v in t.items()},
    "has rank 1, but": lambda t: {
        f"{X}.lora_A.weight": np.ones((1, 3), "f4"),
        f"{X}.lora_B.weight": np.ones((4, 1), "f4"),
    },
}


@pytest.mark.parametrize(("message", "change"), DAMAGE.items(), ids=DAMAGE)
def test_tensors_that_are_no_factors_are_refused(message, change, small):
    _retensor(small, change)
    with pytest.raises(ModelError, match=f"{WEIGHTS}: .*{message}"):
        read_peft_folder(small)


def test_pickled_weights_are_never_opened(small):
    (small / WEIGHTS).rename(small / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle that could run code; save the adapter again"):
        read_peft_folder(small)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_or_broken_file_is_named_with_a_remedy(name, small):
    whole = (small / name).read_bytes()
    (small / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=rf"{name}.*save"):
        read_peft_folder(small)
    (small / name).unlink()
    with pytest.raises(ModelError, match=f"cannot read .*{name}"):
        read_peft_folder(small)
