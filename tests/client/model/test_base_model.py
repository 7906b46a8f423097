import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from common.errors import ModelError
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import copied, loaded
from tests.helpers.common.models import TOKENS, load

KINDS = ["bert", "roberta", "deberta", "gpt2", "llama"]


def _refusal(folder, **settings):
    with pytest.raises(ModelError) as caught:
        loaded(folder, **settings)
    return str(caught.value)


def _no_folder(folder):
    return folder


def _no_config(folder):
    copied("bert", folder)
    (folder / "config.json").unlink()


def _pickle(folder):
    copied("bert", folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _no_weights(folder):
    copied("bert", folder)
    (folder / "model.safetensors").unlink()


def _cut_off(folder):
    weights = copied("bert", folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def _other_size(folder):
    copied("bert", folder, hidden_size=64)


def _wrong_setting(folder):
    copied("bert", folder, vocab_size="many")


def _no_tokenizer(folder):
    for file in copied("bert", folder).glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "fault", "remedy"),
    [
        (_no_folder, "does not exist", "set [base] path to a local Hugging Face folder"),
        (_no_config, "has no config.json", "[base] path must be a Hugging Face model folder"),
        (
            _pickle,
            "contains only pytorch_model.bin, a pickle that could run code",
            "save the model with save_pretrained()",
        ),
        (_no_weights, "contains no weights", "save the model with save_pretrained()"),
        (_cut_off, "incomplete metadata, file not fully covered", "model.safetensors is not a complete"),
        (_other_size, "has another shape than config.json gives it", "copy the model again"),
        (_wrong_setting, "'vocab_size' expected int, got str", "must be a complete Hugging Face folder"),
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
    assert loaded(copied("bert", tmp_path / "base")).folder == tmp_path / "base"


@pytest.mark.parametrize(
    ("device", "remedy"),
    [
        ("cudda", ": use auto, cpu, mps, cuda or cuda:NUMBER"),
        ("meta", ": use auto, cpu, mps, cuda or cuda:NUMBER"),
        ("cuda:99", "; use auto or cpu"),
        pytest.param(
            "mps", "; use auto or cpu", marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="there")
        ),
        ("mps:0", ": use auto, cpu, mps, cuda or cuda:NUMBER"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_the_remedy(device, remedy):
    message = _refusal(tiny_base("bert"), device=device)
    assert message.startswith(f"device = {device!r} (in a recipe: [base] device)")
    assert message.endswith(remedy)


def test_an_automatic_device_is_a_gpu_where_there_is_one():
    base = loaded(tiny_base("bert"), device="auto")
    apple = "mps" if torch.backends.mps.is_available() else "cpu"
    assert base.device.type == ("cuda" if torch.cuda.is_available() else apple)


def test_an_encoder_is_no_causal_language_model():
    message = _refusal(tiny_base("bert"), task="causal-lm")
    assert (
        "lacks the weights of cls.predictions.transform.dense; it is not a causal language model: give a dec" in message
    )


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_masked_language_model_is_no_causal_one_though_it_has_all_weights(tmp_path, kind):
    AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(tiny_base(kind))).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_base(kind)).save_pretrained(tmp_path)
    assert "sees the tokens that it has to predict; it is not a causal language model" in _refusal(
        tmp_path, task="causal-lm"
    )
    assert loaded(tmp_path).head  # control: as an encoder it is right


def test_an_architecture_without_a_causal_form_is_refused():
    assert "cannot load" in _refusal(tiny_base("deberta"), task="causal-lm")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_base_has_the_precision_that_is_asked_for_and_is_frozen(dtype):
    model = loaded(tiny_base("llama"), "causal-lm", dtype).model
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_has_no_dropout_of_its_own(kind):
    body = load(kind).model.base_model  # The logits of a new head are zero, with dropout too.
    plain = body(**TOKENS).last_hidden_state
    assert plain.any()
    torch.testing.assert_close(body.train()(**TOKENS).last_hidden_state, plain)
