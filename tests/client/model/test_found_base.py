"""Found by use: bases whose settings and tokenizer do not say what their weights can do."""

import json

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from common.errors import ModelError
from simulations.architectures.trial import write_base
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import copied, loaded
from tests.helpers.client.nodes import write_node
from tests.helpers.end_to_end.command import call, refusal


def set_config(folder, **settings):
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("positions", [-1, 0])
@pytest.mark.parametrize("kind", ["xlnet", "funnel", "deberta-v2"])
def test_found_B4_no_positive_number_of_positions_is_no_limit(kind, positions, tmp_path):
    folder = write_base(kind, "classification", tmp_path / "base")
    if kind == "xlnet":
        assert AutoConfig.from_pretrained(folder).max_position_embeddings == -1  # a property
    elif kind == "funnel":
        set_config(folder, max_position_embeddings=positions)
    else:
        set_config(folder, max_relative_positions=-1)
    assert loaded(folder).positions == (160 if kind == "deberta-v2" else None)
    assert call("client", write_node(tmp_path, base=str(folder)), "--check", "--targets", "all-linear").status == 0


def test_found_B4_control_a_row_longer_than_the_positions_is_refused(tmp_path):
    folder = write_base("bert", "classification", tmp_path / "base", max_position_embeddings=4)
    assert "has only 4 positions" in refusal(call("client", write_node(tmp_path, base=str(folder)), "--check"))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("special", [True, False])
def test_found_B7_a_tokenizer_of_more_ids_than_the_embedding_has_rows_is_refused(kind, special, tmp_path):
    folder = copied(kind, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    added = [f"<new{place}>" for place in range(600 - len(tokenizer))]
    tokenizer.add_tokens(added, special_tokens=special)
    tokenizer.save_pretrained(folder)
    rows = loaded(tiny_base(kind)).model.get_input_embeddings().num_embeddings
    with pytest.raises(
        ModelError, match=rf"the tokenizer has ids up to 599, but the model's embedding has {rows} rows"
    ):
        loaded(folder)
    task = {"task": "causal-lm"} if kind != "bert" else {}
    message = refusal(call("client", write_node(tmp_path, base=str(folder), **task), "--check"))
    assert "ids up to 599" in message
    assert "resize_token_embeddings()" in message


def test_found_B7_a_token_that_transformers_adds_is_refused_in_the_rows_that_name_it(tmp_path):
    folder = copied("llama", tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = loaded(tiny_base("llama"), "causal-lm").model.get_input_embeddings()
    tokenizer.add_tokens([f"<new{place}>" for place in range(rows.num_embeddings - len(tokenizer))])
    tokenizer.add_tokens(["<|endoftext|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    assert loaded(folder, "causal-lm")
    file = write_node(tmp_path, base=str(folder), task="causal-lm")
    assert call("client", file, "--check", "--targets", "all-linear").status == 0
    file = write_node(tmp_path / "naming", base=str(folder), task="causal-lm")
    (file.parent / "rows.jsonl").write_text('{"text": "one <|endoftext|> two"}\n' * 4)
    assert f"contains the token '<|endoftext|>' ({rows.num_embeddings})" in refusal(call("client", file, "--check"))


def test_found_B7_control_an_embedding_with_room_to_spare_is_none(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base("gpt2"))
    model.resize_token_embeddings(640)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_base("gpt2")).save_pretrained(tmp_path)
    assert loaded(tmp_path, "causal-lm").model.get_input_embeddings().num_embeddings == 640
