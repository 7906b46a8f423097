import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from common.errors import ConfigError
from simulations.corpora import load_corpus
from simulations.tiny_base import tiny_base

KINDS = ("bert", "roberta", "deberta", "gpt2", "llama")
BOTH = ("t5", "bart")
DECODERS = ("gpt2", "llama")
ROOT = Path(__file__).parents[2]
STRANGE = "SHEEP & the tractor, näive – 漢字\n  two"


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDLORA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _classifier(kind):
    return AutoModelForSequenceClassification.from_pretrained(
        tiny_base(kind), num_labels=4, output_loading_info=True, local_files_only=True
    )


@pytest.mark.parametrize("kind", KINDS)
def test_loads_as_a_classifier_whose_head_is_missing(kind):
    model, report = _classifier(kind)
    assert report["missing_keys"]
    assert all(name.startswith(("classifier.", "score.", "pooler.")) for name in report["missing_keys"])
    batch = AutoTokenizer.from_pretrained(tiny_base(kind))(
        ["a cow", "a boat and a mast"], padding=True, return_tensors="pt"
    )
    assert model(**batch).logits.shape == (2, 4)


@pytest.mark.parametrize("kind", DECODERS)
def test_loads_as_a_language_model_with_nothing_missing(kind):
    model, report = AutoModelForCausalLM.from_pretrained(tiny_base(kind), output_loading_info=True)
    assert not report["missing_keys"]
    batch = AutoTokenizer.from_pretrained(tiny_base(kind))(["a cow near the barn"], return_tensors="pt")
    assert model(**batch, labels=batch["input_ids"]).loss.isfinite()


@pytest.mark.parametrize("kind", BOTH)
def test_an_encoder_with_its_decoder_loads_with_nothing_missing(kind):
    model, report = AutoModelForSeq2SeqLM.from_pretrained(tiny_base(kind), output_loading_info=True)
    assert not report["missing_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_base(kind))
    batch = tokenizer(["cow " * 600], text_target=["a barn"], truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape == (1, 512)
    assert model(**batch).loss.isfinite()
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 2, 3)
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 3)
    assert tokenizer.chat_template is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_input_fits(kind):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base(kind))
    batch = tokenizer(["cow " * 600], truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape == (1, tokenizer.model_max_length)
    with torch.no_grad():
        assert _classifier(kind)[0](**batch).logits.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_spells_every_text_and_gives_it_back(kind):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base(kind))
    ids = tokenizer(STRANGE)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == STRANGE
    assert tokenizer.unk_token_id not in ids
    assert len(tokenizer.tokenize("a old barn is seen at the harbour")) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_agree_with_the_model(kind):
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_base(kind)), _classifier(kind)[0]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 2, 3)
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (0, 2, 3)


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("bert", ["<cls>", "Ġcow", "<sep>"]),
        ("roberta", ["<cls>", "Ġcow", "<sep>"]),
        ("deberta", ["<cls>", "Ġcow", "<sep>"]),
        ("gpt2", ["Ġcow"]),
        ("llama", ["<bos>", "Ġcow"]),
        ("t5", ["Ġcow", "<eos>"]),
        ("bart", ["<bos>", "Ġcow", "<eos>"]),
    ],
)
def test_tokens_around_a_text(kind, tokens):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base(kind))
    assert tokenizer.convert_ids_to_tokens(tokenizer(" cow")["input_ids"]) == tokens


@pytest.mark.parametrize("kind", DECODERS)
def test_chat_template(kind):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base(kind))
    turns = [{"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>\nhi<eos>\n<|assistant|>\n"


def test_weights_are_safetensors_and_differ_between_kinds():
    def weights(kind):
        with safe_open(tiny_base(kind) / "model.safetensors", "np") as file:
            return file.get_tensor("embeddings.word_embeddings.weight")

    assert weights("bert").shape == (512, 32)
    assert (weights("bert") != weights("deberta")).any()


def _hashes(kind):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tiny_base(kind).iterdir()}


def test_another_process_makes_the_same_bytes(tmp_path):
    code = (
        "import json; from tests.simulations.test_tiny_base import BOTH, KINDS, _hashes; "
        "print(json.dumps({kind: _hashes(kind) for kind in (*KINDS, *BOTH)}))"
    )
    environment = os.environ | {"FEDLORA_CACHE": str(tmp_path), "PYTHONHASHSEED": "7"}
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == {kind: _hashes(kind) for kind in (*KINDS, *BOTH)}


def test_making_one_leaves_the_global_random_stream_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDLORA_CACHE", str(tmp_path))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny_base("bert")
    assert torch.equal(torch.rand(3), expected)


def _accuracy(model, batch, labels):
    with torch.no_grad():
        return (model(**batch).logits.argmax(1) == labels).float().mean().item()


def test_a_tiny_base_can_learn_the_toy_corpus():
    torch.manual_seed(0)
    rows = load_corpus("toy").rows
    classes = sorted({row["label"] for row in rows})
    labels = torch.tensor([classes.index(row["label"]) for row in rows])
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_base("llama")), _classifier("llama")[0]
    batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    test = {key: value[300:] for key, value in batch.items()}
    before = _accuracy(model, test, labels[300:])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        chosen = torch.arange(step * 16, step * 16 + 16) % 300
        model(**{key: value[chosen] for key, value in batch.items()}, labels=labels[chosen]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert before < 0.5 < 0.65 < _accuracy(model, test, labels[300:])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'llama'"):
        tiny_base("lama")
