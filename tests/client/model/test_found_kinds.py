"""Found by use: kinds of models that have no part in a task, in our words."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

from common.errors import ModelError
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import loaded
from tests.helpers.client.nodes import write_node
from tests.helpers.end_to_end.command import TINY, call, refusal, settings

_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_BART = {
    "d_model": 32,
    **{f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in (("layers", 1), ("ffn_dim", 64))},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
}
PAIRS = {"t5": _T5, "mt5": _T5, "bart": _BART, "mbart": _BART, "pegasus": _BART, "marian": _BART}


def written(kind, folder, automatic, **config):
    torch.manual_seed(0)
    automatic.from_config(AutoConfig.for_model(kind, vocab_size=512, pad_token_id=0, **config)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_base("bert")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", ["causal-lm", "preference"])
@pytest.mark.parametrize("kind", PAIRS)
def test_found_B10_an_encoder_and_decoder_is_no_causal_language_model(kind, task, tmp_path):
    folder = written(kind, tmp_path / "base", AutoModelForSeq2SeqLM, **PAIRS[kind])
    with pytest.raises(ModelError) as caught:
        loaded(folder, task)
    message = str(caught.value)
    assert message.startswith(f"{folder} is a {kind} model, an encoder with a decoder, and task = {task!r} is for ")
    assert message.endswith("set task = 'seq2seq' (in a recipe: [data] task), or give a decoder such as GPT-2 or Llama")
    assert loaded(folder, "seq2seq").model.config.is_encoder_decoder  # control


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_found_B10_a_model_without_encoder_and_decoder_is_none_for_seq2seq(kind):
    folder = tiny_base(kind)
    with pytest.raises(ModelError) as caught:
        loaded(folder, "seq2seq")
    message = str(caught.value)
    assert " model, and task = 'seq2seq' is for an encoder with a decoder, such as T5 or BART; " in message
    assert message.endswith("set task = 'causal-lm' (in a recipe: [data] task)")


def test_found_B10_a_checkpoint_without_its_output_layer_is_refused(tmp_path):
    folder = written("bart", tmp_path / "base", AutoModel, **_BART, tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"lacks the weights of lm_head; it is not an encoder with a decoder that"):
        loaded(folder, "seq2seq")


def test_found_B10_commands_say_so_with_status_2(tmp_path):
    folder = written("t5", tmp_path / "base", AutoModelForSeq2SeqLM, **_T5)
    asked = call("client", write_node(tmp_path, base=str(folder), task="causal-lm"), "--check")
    words = settings(f"base.path={folder}", "data.task=causal-lm", "clients.partition=iid")
    other = settings("base.path=tiny:llama", "data.task=seq2seq", "clients.partition=iid")
    for ended in (asked, call("simulate", TINY, "--out", tmp_path / "runs", *words)):
        assert "set task = 'seq2seq' (in a recipe: [data] task)" in refusal(ended)
    ended = call("simulate", TINY, "--out", tmp_path / "runs", *other)
    assert "set task = 'causal-lm' (in a recipe: [data] task)" in refusal(ended)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("task", ["causal-lm", "classification"])
def test_found_B10_a_model_that_is_not_for_text_is_named(task, tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    folder = written("vit", tmp_path / "base", AutoModel, image_size=16, patch_size=8, **sizes)
    with pytest.raises(ModelError, match=rf"for {task}: the installed Transformers has no ModelFor\w+ of a vit model"):
        loaded(folder, task)
