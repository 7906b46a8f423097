import copy
import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from client.data import eval_batches, tokenize
from client.model import BaseModel, load_base
from client.rows import Row
from client.train import forward
from common.config import Node
from common.errors import ModelError
from common.lora import Lora
from simulations.tiny import tiny_base
from tests.common.models_for_tests import LABELS, TOKENS, adapted_logits, load, logits, random_adapter

KINDS = ["bert", "roberta", "deberta", "gpt2", "llama"]


def _copy(kind, folder, **settings):
    """A tiny base in a folder of its own, with other settings; None takes one away."""
    shutil.copytree(tiny_base(kind), folder)
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def _load(folder, task="classification", dtype="float32", device="cpu"):
    return load_base(str(folder), task, LABELS if task == "classification" else (), dtype, device)


def _refusal(folder, **settings):
    with pytest.raises(ModelError) as caught:
        _load(folder, **settings)
    return str(caught.value)


def _no_folder(folder):
    return folder


def _no_config(folder):
    _copy("bert", folder)
    (folder / "config.json").unlink()


def _pickle(folder):
    _copy("bert", folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _no_weights(folder):
    _copy("bert", folder)
    (folder / "model.safetensors").unlink()


def _cut_off(folder):
    weights = _copy("bert", folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def _other_size(folder):
    _copy("bert", folder, hidden_size=64)


def _wrong_setting(folder):
    _copy("bert", folder, vocab_size="many")


def _no_tokenizer(folder):
    for file in _copy("bert", folder).glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "fault", "remedy"),
    [
        (_no_folder, "does not exist", "set [base] path to a local Hugging Face folder"),
        (_no_config, "has no config.json", "[base] path must be a Hugging Face model folder"),
        (
            _pickle,
            "holds only pytorch_model.bin, a pickle that could run code",
            "save the model with save_pretrained()",
        ),
        (_no_weights, "holds no weights", "save the model with save_pretrained()"),
        (_cut_off, "incomplete metadata, file not fully covered", "must be a whole Hugging Face folder"),
        (_other_size, "cannot load", "must be a whole Hugging Face folder"),
        (_wrong_setting, "'vocab_size' expected int, got str", "must be a whole Hugging Face folder"),
        (_no_tokenizer, "has no vocabulary", "write the tokenizer there with save_pretrained()"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_the_remedy(tmp_path, spoil, fault, remedy):
    folder = tmp_path / "base"
    spoil(folder)
    message = _refusal(folder)
    assert str(folder) in message
    assert fault in message
    assert remedy in message


def test_a_folder_as_it_should_be_is_loaded(tmp_path):
    assert _load(_copy("bert", tmp_path / "base")).folder == tmp_path / "base"


@pytest.mark.parametrize("device", ["cudda", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_with_the_remedy(device):
    message = _refusal(tiny_base("bert"), device=device)
    assert message.startswith(f"device = {device!r}: ")
    assert message.endswith("; use auto, cpu or cuda")


def test_an_encoder_is_no_causal_language_model():
    message = _refusal(tiny_base("bert"), task="causal-lm")
    assert "lacks the weights of cls.predictions.transform.dense; it is no causal language model: give a dec" in message


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_masked_language_model_is_no_causal_one_though_it_has_all_weights(tmp_path, kind):
    AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(tiny_base(kind))).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_base(kind)).save_pretrained(tmp_path)
    assert "sees the words that it is to predict; it is no causal language model" in _refusal(
        tmp_path, task="causal-lm"
    )
    assert _load(tmp_path).head  # control: as an encoder it is right


def test_an_architecture_without_a_causal_form_is_refused():
    assert "cannot load" in _refusal(tiny_base("deberta"), task="causal-lm")


def test_a_base_is_loaded_once():
    one = _load(tiny_base("bert"))
    assert _load(str(tiny_base("bert")) + "/.") is one
    assert _load(tiny_base("bert"), dtype="bfloat16") is not one


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_base_has_the_precision_that_is_asked_for_and_is_frozen(dtype):
    model = _load(tiny_base("llama"), "causal-lm", dtype).model
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_has_no_dropout_of_its_own(kind):
    model = load(kind).model
    plain = logits(model)
    model.train()
    torch.testing.assert_close(model(**TOKENS).logits.detach(), plain)


def _storages(model):
    return {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}


def _live_bytes():
    """Bytes of all tensors of this process, each storage once."""
    gc.collect()
    storages = [o.untyped_storage() for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_skeletons_share_every_tensor_and_hold_no_copy(kind):
    base = _load(tiny_base(kind))
    size = sum(p.nbytes for p in base.model.parameters())
    before = _live_bytes()
    skeletons = [base.skeleton() for _ in range(4)]
    assert _live_bytes() <= before
    for skeleton in skeletons:
        assert _storages(skeleton.model) == _storages(base.model)
        assert not set(skeleton.model.modules()) & set(base.model.modules())
    plain = copy.deepcopy(base.model)  # control
    assert _live_bytes() >= before + size
    assert not _storages(plain) & _storages(base.model)


def test_adapters_on_one_skeleton_are_seen_by_no_other():
    base = _load(tiny_base("llama"), "causal-lm")
    one, other = base.skeleton(), base.skeleton()
    plain = logits(base.model)
    lora = Lora(one.model, ["model.layers.0.self_attn.q_proj"])
    adapter = random_adapter(lora.shapes, (2,))
    adapted = adapted_logits(lora, adapter)
    lora.lanes = []
    assert not torch.allclose(adapted, plain, atol=1e-2)
    assert torch.equal(logits(other.model), plain)
    assert torch.equal(logits(base.model), plain)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("bert", [("classifier", True, True)]),
        ("roberta", [("classifier.dense", False, True), ("classifier.out_proj", True, True)]),
        ("deberta", [("pooler.dense", False, True), ("classifier", True, True)]),
        ("gpt2", [("score", True, False)]),
        ("llama", [("score", True, False)]),
    ],
)
def test_a_new_head_is_named_and_its_last_projection_is_zero(kind, head):
    base = load(kind)
    assert [(module.name, module.last, module.bias) for module in base.head] == head
    *inner, last = [base.model.get_submodule(name) for name, _, _ in head]
    assert not last.weight.any()
    assert all(module.weight.std().item() == pytest.approx(0.02, rel=0.1) for module in inner)
    assert not any(module.bias.any() for module in (*inner, last) if module.bias is not None)


def test_a_checkpoint_with_its_own_head_keeps_it(tmp_path):
    AutoModelForSequenceClassification.from_pretrained(tiny_base("bert"), num_labels=3).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_base("bert")).save_pretrained(tmp_path)
    base = _load(tmp_path)
    assert base.head == ()
    assert base.model.classifier.weight.any()


DRAW = """
import sys
from client.model import load_base
model = load_base(sys.argv[1], "classification", ("bad", "fair", "good"), "float32", "cpu").model
sys.stdout.write(model.classifier.dense.weight.numpy().tobytes().hex())
"""


def test_two_processes_have_the_same_new_head():
    ours = _load(tiny_base("roberta")).model.classifier.dense.weight.numpy()
    command = [sys.executable, "-c", DRAW, str(tiny_base("roberta"))]
    other = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert other.stdout == ours.tobytes().hex()
    redrawn = AutoModelForSequenceClassification.from_pretrained(tiny_base("roberta"), num_labels=3)
    assert not np.allclose(redrawn.classifier.dense.weight.detach(), ours)  # control: Transformers' own draw


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("pad", [None, -1, 1])
def test_a_decoder_reads_a_row_at_its_last_token_whatever_its_settings_say_of_padding(tmp_path, kind, pad):
    base = _load(_copy(kind, tmp_path / "base", pad_token_id=pad)).skeleton()
    _read_off_the_last_token(base)
    base.model.config.pad_token_id = 1  # control: not what these rows are padded with
    with pytest.raises(AssertionError):
        _read_off_the_last_token(base)


def test_a_decoder_whose_tokenizer_does_not_pad_pads_with_its_end_of_text(tmp_path):
    folder = _copy("gpt2", tmp_path / "base", pad_token_id=None)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    del tokenizer["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    base = _load(folder)
    assert base.tokenizer.pad_token_id is None
    assert base.model.config.pad_token_id == base.tokenizer.eos_token_id
    _read_off_the_last_token(base.skeleton())


def _read_off_the_last_token(base: BaseModel):
    """Checks that a short row has the same logits beside a long one as alone."""
    torch.manual_seed(0)
    base.model.score.weight = nn.Parameter(torch.randn(3, 32))
    rows = [Row(line, {"text": text, "label": "good"}) for line, text in enumerate(["hay", "a cow by the old barn"], 1)]
    node = Node("clinic", 1, "base", "rows", labels=LABELS)
    examples = tokenize(rows, node, base.tokenizer, Path("rows.jsonl"))
    (together,) = (forward(base, batch) for batch in eval_batches(examples, 2))
    alone = torch.cat([forward(base, batch) for batch in eval_batches(examples, 1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
