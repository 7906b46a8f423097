"""Rows of an encoder with a decoder: what is read, what is written, and their loss (client/objectives/seq2seq.py)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from client.checking.seen_rows import see
from client.data.rows import Row
from client.model.lora import frozen_lane
from client.objectives.examples import encode_rows as encode
from client.objectives.examples import eval_batches, subset
from client.objectives.source_target import Side
from client.training.adapted_model import AdaptedModel
from client.training.evaluate import evaluate
from common.errors import ConfigError, DataError
from simulations.tiny_base import tiny_base
from tests.helpers.client.toy_tokenizer import node_data
from tests.helpers.client.training import PLAIN, bench, largest_gap, random_rows
from tests.helpers.common.models import random_adapter

KINDS = ("t5", "bart")
FILE = Path("rows.jsonl")
TEXTS = ("a cow by the barn", "  two blanks\n", "ship", "näive – 漢字", "a\n\nb")


def tokenizer_of(kind):
    return AutoTokenizer.from_pretrained(tiny_base(kind))


def encoded(fields, kind="t5", tokenizer=None, **settings):
    data = node_data(**({"task": "seq2seq", "max_length": 64} | settings))
    rows = [Row(line, each) for line, each in enumerate([fields] if isinstance(fields, dict) else fields, 1)]
    return encode(rows, data, tokenizer or tokenizer_of(kind), FILE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [64, 4])
def test_both_sides_are_those_of_the_tokenizer(kind, limit):
    tokenizer = tokenizer_of(kind)
    rows = encoded([{"prompt": a, "completion": b} for a in TEXTS for b in TEXTS], kind, max_length=limit).rows
    asked = {"truncation": True, "max_length": limit}
    for row, (a, b) in zip(rows, ((a, b) for a in TEXTS for b in TEXTS), strict=True):
        both = tokenizer(a, text_target=b, **asked)
        assert row.source.ids.tolist() == both["input_ids"]
        assert row.target.ids.tolist() == both["labels"] == row.target.targets.tolist()
        whole = tokenizer(a, text_target=b)
        assert row.cut == max(0, *(len(whole[side]) - limit for side in ("input_ids", "labels")))
    assert any(row.cut for row in rows) == (limit == 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text", ["farm", "farm<eos>", "farm<eos>\n", "<bos>farm<eos>", "farm<eos><eos>", "farm <eos> \n"]
)
def test_the_end_is_there_once_with_and_without_one_in_the_text(kind, text):
    tokenizer = tokenizer_of(kind)
    (row,) = encoded({"prompt": text, "completion": text}, kind).rows
    for side in (row.source, row.target):
        ids = side.ids.tolist()
        assert (ids.count(tokenizer.eos_token_id), ids[-1]) == (1, tokenizer.eos_token_id)
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "farm"
    assert tokenizer(text_target="farm<eos>")["input_ids"].count(tokenizer.eos_token_id) == 2  # control


def test_an_end_within_a_text_stays():
    (row,) = encoded({"prompt": "a", "completion": "one<eos>two"}).rows
    assert row.target.ids.tolist().count(3) == 2


def test_a_tokenizer_that_adds_no_end_gets_one_on_what_is_written():
    tokenizer = tokenizer_of("gpt2")
    (row,) = encoded({"prompt": "a", "completion": "b"}, tokenizer=tokenizer).rows
    assert row.target.ids.tolist() == [*tokenizer("b")["input_ids"], tokenizer.eos_token_id]
    assert row.source.ids.tolist() == tokenizer("a")["input_ids"]


ROWS = [
    ({"prompt": "p", "completion": "c"}, {}, ("p", "c")),
    ({"question": "p", "reply": "c"}, {"prompt": "question", "completion": "reply"}, ("p", "c")),
    ({"instruction": "i", "input": "more", "output": "c"}, {}, ("i\n\nmore", "c")),
    ({"instruction": "i", "input": "", "output": "c", "system": "be"}, {}, ("be\n\ni", "c")),
    ({"source": "p", "target": "c"}, {}, ("p", "c")),
    ({"document": "p", "summary": "c", "id": 7}, {}, ("p", "c")),
    ({"article": "p", "highlights": "c"}, {}, ("p", "c")),
    ({"dialogue": "p", "summary": "c"}, {}, ("p", "c")),
    ({"text": "p", "summary": "c"}, {}, ("p", "c")),
    ({"messages": [], "text": "t", "prompt": "p", "completion": "c"}, {}, ("p", "c")),
]


@pytest.mark.parametrize(("fields", "keys", "texts"), ROWS, ids=[" ".join(row[0]) for row in ROWS])
def test_layouts(fields, keys, texts):
    tokenizer = tokenizer_of("t5")
    (row,) = encoded(fields, **keys).rows
    sides = (row.source.ids, row.target.ids)
    assert tuple(tokenizer.decode(ids, skip_special_tokens=True) for ids in sides) == texts


CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
REFUSED = [
    ({"text": "alone"}, "the columns are 'text', a plain text; name their columns by prompt = 'prompt' and completion"),
    ({"messages": CHAT}, "the columns are 'messages', a chat; name"),
    ({"conversations": CHAT}, "the columns are 'conversations', a chat; name"),
    ({"other": "x"}, "the columns are 'other'; name"),
    ({"prompt": CHAT, "completion": "a"}, "'prompt' is a chat, and an encoder reads one text; give both"),
    ({"prompt": "q", "completion": CHAT}, "'completion' is a chat"),
    ({"prompt": "q", "completion": None}, "'completion' is empty"),
    ({"prompt": " ", "completion": "a"}, "'prompt' is blank"),
    ({"prompt": "q", "completion": "<eos>"}, "'completion' has nothing to learn but special tokens"),
]


@pytest.mark.parametrize(("fields", "told"), REFUSED, ids=[told[:40] for _, told in REFUSED])
def test_found_B10_rows_without_two_texts_are_refused_by_file_and_row(fields, told):
    with pytest.raises(DataError) as caught:
        encoded(fields)
    message = str(caught.value)
    assert "rows.jsonl, line 1: " in message
    assert told in message
    assert "fix or remove them" in message or 'task = "causal-lm"' in message


def test_a_limit_without_room_is_refused():
    with pytest.raises(ConfigError, match=r"max_length = 2 has room only for the tokenizer's 2 special tokens; raise"):
        encoded({"prompt": "q", "completion": "a"}, "bart", max_length=2)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    where = bench(kind, "seq2seq", random_rows("seq2seq", [5, 23, 9, 2, 14]))
    adapter = random_adapter(where.lora.shapes, (3,))
    where.lora.lanes = [frozen_lane(adapter)]
    losses = {}
    for size in (1, 5):
        model = AdaptedModel(where.base, where.lora)
        with torch.no_grad():
            measured = [where.rows.objective.measure(model, batch).loss for batch in eval_batches(where.rows, size)]
        losses[size] = sum(measured).item()
    assert losses[1] == pytest.approx(losses[5], rel=1e-5)
    first = evaluate(where.base, where.lora, adapter, subset(where.rows, [0]))
    assert first.loss * first.count < losses[1] / 2  # control: rows differ


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_changes_nothing_and_16_bits_little(kind):
    where = bench(kind, "seq2seq")
    start = where.start()
    plain = where.train(start, PLAIN)
    assert largest_gap(where.train(start, replace(PLAIN, checkpointing=True)).adapter, plain.adapter) < 1e-6
    assert largest_gap(start.start, plain.adapter) > 1e-3  # control
    assert plain.tokens == sum(len(row.target) for row in where.rows.rows)
    half = bench(kind, "seq2seq", dtype="bfloat16").train(start, PLAIN)
    assert half.loss == pytest.approx(plain.loss, rel=2e-2)
    assert half.loss != plain.loss


def test_check_shows_both_sides_and_that_all_that_is_written_carries_loss():
    tokenizer = tokenizer_of("bart")
    (row,) = encoded({"prompt": "a cow", "completion": "farm"}, "bart").rows
    seen = see(1, row, (), tokenizer)
    assert seen.target is None
    source, target = seen.parts
    assert (source.name, source.tokens, source.learned) == ("source", len(row.source), 0)
    assert (target.name, target.tokens, target.learned) == ("target", len(row.target), len(row.target))
    assert "".join(span.text for span in target.spans) == "<bos>farm<eos>"


def test_what_is_read_for_a_text_alone_is_what_a_row_has():
    for kind in KINDS:
        (row,) = encoded({"prompt": "a cow<eos>", "completion": "farm"}, kind).rows
        assert Side.of(tokenizer_of(kind), written=False).read("a cow") == row.source.ids.tolist()
