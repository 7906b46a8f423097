"""Tiny base models with random weights and a real tokenizer, for tests and trials without a download."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from common.errors import ConfigError, nearest
from simulations.cache import build_once
from simulations.corpora import toy

_VERSION = 1  # in the cache's key: raise it when this file makes other models
_SEED = 0
_VOCABULARY = 512
_LONGEST = 512
_SPECIAL = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "cls_token": "<cls>",
    "sep_token": "<sep>",
    "mask_token": "<mask>",
}
_CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_COMMON = {
    "vocab_size": _VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "initializer_range": 0.1,  # at the usual 0.02 such a narrow model learns almost nothing in a short test
}
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": _LONGEST + 1,  # RoBERTa's first position is 1
}
_DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 32,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": _LONGEST}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_BART = {
    "d_model": 32,
    "max_position_embeddings": _LONGEST,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": 3,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
}


@dataclass(frozen=True)
class _Kind:
    """A kind of base: its configuration, Transformers' class, and the tokens around a text (`$A`)."""

    model_type: str
    settings: Mapping[str, Any]
    auto: Any
    frame: tuple[str, ...]


_KINDS = {
    "bert": _Kind("bert", _SIZES, AutoModel, ("<cls>", "$A", "<sep>")),
    "roberta": _Kind("roberta", _SIZES, AutoModel, ("<cls>", "$A", "<sep>")),
    "deberta": _Kind("deberta-v2", _SIZES | _DEBERTA_V3, AutoModel, ("<cls>", "$A", "<sep>")),
    "gpt2": _Kind("gpt2", _GPT2, AutoModelForCausalLM, ("$A",)),
    "llama": _Kind("llama", _SIZES | {"num_key_value_heads": 2}, AutoModelForCausalLM, ("<bos>", "$A")),
    "t5": _Kind("t5", _T5, AutoModelForSeq2SeqLM, ("$A", "<eos>")),
    "bart": _Kind("bart", _BART, AutoModelForSeq2SeqLM, ("<bos>", "$A", "<eos>")),
}


def tiny_base(kind: str) -> Path:
    """Return a Hugging Face folder, 2 layers, width 32, of encoders, decoders, or both.

    `bert`, `roberta` and `deberta` (v2) are encoders, `gpt2` and `llama` decoders, `t5` and `bart` both. Equal versions
    of torch and transformers give equal weights. Encoders have no head, the others have their language model head,
    decoders also a chat template. The folder is made once and cached.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in _KINDS:
        raise ConfigError(f"tiny base {kind!r} is unknown{nearest(kind, _KINDS)}")
    versions = f"torch-{torch.__version__}-transformers-{transformers.__version__}"
    return build_once(f"tiny/{kind}-{_VERSION}-{versions}", lambda folder: _save(_KINDS[kind], folder))


def _save(kind: _Kind, folder: Path) -> None:
    config = AutoConfig.for_model(kind.model_type, **{**_COMMON, **kind.settings})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        model = kind.auto.from_config(config)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    _tokenizer(kind).save_pretrained(folder)


def _tokenizer(kind: _Kind) -> Any:
    tokenizer = _byte_pairs()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=list(kind.frame),
        special_tokens=[(part, tokenizer.token_to_id(part)) for part in kind.frame if part != "$A"],
    )
    fast: Any = PreTrainedTokenizerFast  # Any: not typed
    return fast(
        tokenizer_object=tokenizer,
        model_max_length=_LONGEST,
        model_input_names=["input_ids", "attention_mask"],
        chat_template=_CHAT if kind.auto is AutoModelForCausalLM else None,
        **_SPECIAL,
    )


def _byte_pairs() -> Tokenizer:
    """Train a byte-level BPE that knows the words of the toy corpus and spells all others."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((row["prompt"] + row["completion"] for row in toy.load().rows), trainer)
    return tokenizer
