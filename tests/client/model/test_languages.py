"""Tokenizers that mark each text with its language (client/model/languages.py), made here without a download."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    MBart50Tokenizer,
    MBartTokenizer,
    NllbTokenizer,
)

from client.data.rows import Row
from client.finished.text import _begin
from client.model.languages import with_languages
from client.node import load_node_base, read_examples
from common.errors import ConfigError
from common.settings.node import Node, NodeData
from common.settings.recipe import Base
from tests.helpers.client.bases import loaded

_SIDES = {
    "d_model": 32,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    **{f"{side}_{key}": 1 for side in ("encoder", "decoder") for key in ("layers", "attention_heads")},
    **{f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")},
}
_PIECES = ["<s>", "<pad>", "</s>", "<unk>", *"▁abcdefgh"]
_SCORED = [(piece, -float(place)) for place, piece in enumerate(_PIECES)]
_TABLE = {piece: place for place, piece in enumerate(_PIECES)}
KINDS = {
    "mbart": ("mbart", lambda: MBartTokenizer(vocab=_SCORED), "en_XX", "ro_RO"),
    "mbart50": ("mbart", lambda: MBart50Tokenizer(vocab=_SCORED), "en_XX", "ro_RO"),
    "nllb": ("m2m_100", lambda: NllbTokenizer(vocab=_TABLE, merges=[]), "eng_Latn", "fra_Latn"),
}


@pytest.fixture(params=KINDS)
def base(request, tmp_path):
    kind, tokenizer, source, target = KINDS[request.param]
    folder = tmp_path / request.param
    made = tokenizer()
    config = AutoConfig.for_model(kind, vocab_size=len(made) + 8, **_SIDES)
    torch.manual_seed(0)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder, source, target


def node(folder, **data):
    return Node(name="n", rank=2, base=Base(str(folder)), data=NodeData(task="seq2seq", path="rows", **data))


def test_found_B10_each_side_has_its_language(base):
    folder, source, target = base
    own = node(folder, src_lang=source, tgt_lang=target)
    tokenizer = load_node_base(own).tokenizer
    (row,) = read_examples(own, [Row(1, {"prompt": "abc de", "completion": "fg"})], folder).rows
    assert row.source.ids.tolist() == tokenizer("abc de")["input_ids"]
    assert row.target.ids.tolist() == tokenizer(text_target="fg")["input_ids"]
    codes = [tokenizer.convert_tokens_to_ids(each) for each in (source, target)]
    assert [code in side.ids.tolist() for code, side in zip(codes, (row.source, row.target), strict=True)] == [True] * 2
    assert codes[0] not in row.target.ids.tolist()


def test_a_text_is_begun_as_the_decoder_was_trained_to(base):
    folder, source, target = base
    loaded_base = load_node_base(node(folder, src_lang=source, tgt_lang=target))
    code = loaded_base.tokenizer.convert_tokens_to_ids(target)
    begin = _begin(loaded_base)[0].tolist()
    labels = torch.tensor([loaded_base.tokenizer(text_target="fg")["input_ids"]])
    model = loaded_base.model
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        shifted = model.prepare_decoder_input_ids_from_labels(labels)[0].tolist()
    else:
        shifted = [model.config.decoder_start_token_id, *labels[0].tolist()[:-1]]
    assert begin == shifted[: len(begin)]
    assert begin[-1] == code  # the next token is the text's first


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, r"marks each text with its language; set src_lang \(in a recipe: \[data\] src_lang\) to one of "),
        ({"src_lang": True}, r"; set tgt_lang \(in a recipe: \[data\] tgt_lang\) to one of "),
        (
            {"src_lang": True, "tgt_lang": "xx_Nowhere"},
            r"tgt_lang .* = 'xx_Nowhere' is no language of the tokenizer of",
        ),
    ],
    ids=["none", "one", "unknown"],
)
def test_found_B10_a_language_that_is_not_set_or_not_known_is_named_with_its_key(base, keys, told):
    folder, source, _ = base
    with pytest.raises(ConfigError, match=told):
        load_node_base(node(folder, **{key: source if value is True else value for key, value in keys.items()}))


def test_a_tokenizer_without_languages_takes_none():
    from simulations.tiny_base import tiny_base

    plain = loaded(tiny_base("t5"), "seq2seq")
    assert with_languages(plain, None, None) is plain
    with pytest.raises(ConfigError, match=r"src_lang .* = 'en_XX', but the tokenizer of .* marks no languages; leave"):
        with_languages(plain, "en_XX", None)


def test_nodes_of_other_languages_have_other_fingerprints(base):
    from client.node import describe_model

    folder, source, target = base
    there, back = (
        describe_model(node(folder, src_lang=a, tgt_lang=b), "query-value")
        for a, b in ((source, target), (target, source))
    )
    assert there.fingerprint != back.fingerprint
    assert there.parts["src_lang"] == f'"{source}"'
