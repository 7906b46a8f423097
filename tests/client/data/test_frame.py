"""Rows that were rendered with special tokens (client/data/frame.py)."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from client.data.chats.chat import Chat
from client.data.chats.tokens import chat_tokens
from client.data.frame import unframed
from client.data.rows import Row
from client.data.tokens import joined_tokens, prompt_ids
from simulations.tiny_base import tiny_base
from tests.helpers.client.chat_templates import CHATML, LLAMA_3, chat_tokenizer

FILE = Path("rows.jsonl")


def ids_of(tokenizer, *texts):
    """Return the ids of a row with a column of each text."""
    row = Row(1, {str(n): text for n, text in enumerate(texts)})
    ((ids, learned),) = joined_tokens([row], tokenizer, FILE, *row.fields)
    return tokenizer.decode(ids), tokenizer.decode([n for n, mark in zip(ids, learned, strict=True) if mark])


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("hello", "<s>hello</s>"),
        ("<s>hello", "<s>hello</s>"),
        ("hello</s>", "<s>hello</s>"),
        ("<s>hello</s>", "<s>hello</s>"),
        ("\n<s>hello</s>\n", "\n<s>hello</s>\n"),
        ("hello</s>there", "<s>hello</s>there</s>"),
        ("hello<s>there", "<s>hello<s>there</s>"),
        ("hello /s>", "<s>hello /s></s>"),
    ],
)
def test_found_D8_a_text_that_has_its_beginning_or_end_gets_no_second(text, becomes):
    assert ids_of(chat_tokenizer(adds_bos=True), text)[0] == becomes


def test_found_D8_a_tokenizer_that_adds_no_beginning_leaves_the_text_s_own():
    assert ids_of(chat_tokenizer(), "<s>hello")[0] == "<s>hello</s>"
    assert ids_of(chat_tokenizer(), "hello")[0] == "hello</s>"  # control


@pytest.mark.parametrize("prompt", ["hello", "<s>hello"])
@pytest.mark.parametrize("completion", [" there", " there</s>", " there</s>\n"])
def test_found_D8_prompt_and_completion_have_one_beginning_and_one_end(prompt, completion):
    whole, learned = ids_of(chat_tokenizer(adds_bos=True), prompt, completion)
    assert (whole.count("<s>"), whole.count("</s>")) == (1, 1)
    assert learned == " there</s>" + "\n" * completion.endswith("\n")


def test_found_D8_the_end_of_a_turn_that_is_the_end_of_text_is_not_doubled():
    tokenizer = chat_tokenizer(CHATML, eos_token="<|im_end|>")
    ((expected, _),) = chat_tokens([(1, chat("hello", "there"))], tokenizer, FILE)
    rendered = tokenizer.apply_chat_template([*chat("hello", "there").messages], tokenize=False)
    assert ids_of(tokenizer, rendered)[0] == rendered == tokenizer.decode(expected)
    assert ids_of(tokenizer, rendered.strip())[0] == rendered.strip()
    assert ids_of(tokenizer, "<|im_start|>user\nhello")[0] == "<|im_start|>user\nhello<|im_end|>"  # control


def test_found_D8_a_template_that_writes_the_beginning_itself_has_one():
    tokenizer = chat_tokenizer(LLAMA_3, adds_bos=True)
    ((ids, _),) = chat_tokens([(1, chat("hello", "there"))], tokenizer, FILE)
    assert tokenizer.decode(ids).count("<s>") == 1
    assert tokenizer(tokenizer.decode(ids))["input_ids"].count(tokenizer.bos_token_id) == 2  # control


def chat(asked, said):
    return Chat(({"role": "user", "content": asked}, {"role": "assistant", "content": said}))


@pytest.mark.parametrize(
    ("asked", "said"),
    [("hello", "there<|im_end|>"), ("hello<|im_end|>\n", "there<|im_end|>\n"), ("hello", "there<|im_end|> ")],
)
def test_found_D8_a_message_that_has_the_end_of_its_turn_gets_no_second(asked, said):
    tokenizer = chat_tokenizer(CHATML)
    plain, rendered = (chat_tokens([(1, chat(*each))], tokenizer, FILE) for each in (("hello", "there"), (asked, said)))
    assert rendered == plain


def test_found_D8_a_message_in_which_nothing_is_doubled_stays():
    tokenizer = chat_tokenizer(CHATML)
    own = chat("<s>hello</s>", "</s></s>a<|im_end|>b")
    ((ids, _),) = chat_tokens([(1, own)], tokenizer, FILE)
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template([*own.messages], tokenize=False)


def test_found_D8_a_prompt_to_continue_has_one_beginning():
    tokenizer = chat_tokenizer(adds_bos=True)
    assert prompt_ids(tokenizer, "<s>hello") == prompt_ids(tokenizer, "hello")


@pytest.mark.parametrize(
    ("kind", "begin", "end"), [("bert", "<cls>", "<sep>"), ("llama", "<bos>", ""), ("roberta", "<cls>", "<sep>")]
)
def test_found_D8_a_text_to_classify_has_one_frame(kind, begin, end):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base(kind))
    plain = tokenizer("a cow")["input_ids"]
    assert tokenizer(unframed(tokenizer, [f"{begin}a cow{end}", "a cow"]))["input_ids"] == [plain, plain]
    assert tokenizer(f"{begin}a cow{end}")["input_ids"] != plain  # control


def test_found_D8_a_completion_that_has_a_beginning_of_its_own_gets_none_after_the_prompt():
    tokenizer = chat_tokenizer(adds_bos=True)
    assert ids_of(tokenizer, "<s>hello", " <s>there</s>") == ids_of(tokenizer, "hello", "there")
    assert ids_of(tokenizer, "hello", "a <s>there") == ("<s>helloa <s>there</s>", "a <s>there</s>")  # control
