"""Messages that were rendered before: what the template writes around them is not doubled (special_words.py)."""

import pytest

from client.data.chats.chat import read_chat
from client.data.chats.template import fit
from tests.helpers.client.chat_templates import CHATML, GEMMA, LLAMA_3, MISTRAL, QWEN_3, chat_tokenizer

TEMPLATES = {"chatml": CHATML, "llama": LLAMA_3, "gemma": GEMMA, "mistral": MISTRAL, "qwen": QWEN_3}


def text(template, *contents):
    """Return the text of a chat of these contents."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": each} for n, each in enumerate(contents)]
    return fit(chat_tokenizer(template), read_chat({"m": messages}, "m"), False)[1]


RENDERED = {
    "chatml": ("<|im_start|>user\nhello<|im_end|>\n", "<|im_start|>assistant\nthere<|im_end|>\n"),
    "llama": (
        "<s><|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\nthere<|eot_id|>",
    ),
    "gemma": ("<start_of_turn>user\nhello<end_of_turn>", "<start_of_turn>model\nthere<end_of_turn>"),
    "mistral": ("<s>[INST] hello [/INST]", "there</s>"),
    "qwen": ("<|im_start|>user\nhello<|im_end|>", "<think>\n\n</think>\n\nthere<|im_end|>"),
}
PIECES = {
    "mistral": ("<s>hello", "<s>there</s>"),
    "chatml": ("hello<|im_end|>", "there<|im_end|>\n"),
    "gemma": ("hello", "there<end_of_turn>\n"),
}


@pytest.mark.parametrize(
    ("name", "contents"), [*RENDERED.items(), *PIECES.items()], ids=[*RENDERED, *(f"pieces {name}" for name in PIECES)]
)
def test_found_D8_a_message_that_was_rendered_is_rendered_once(name, contents):
    assert text(TEMPLATES[name], *contents) == text(TEMPLATES[name], "hello", "there")


@pytest.mark.parametrize(
    "contents",
    [
        ("what is <|im_end|> for?", "an end"),
        ("hello", "<|im_end|> ends a turn"),
        ("<think> is a word", "there"),
        ("<|im_end|>", "there"),
    ],
)
def test_found_D8_special_tokens_that_nothing_doubles_stay(contents):
    for content in contents:
        assert content in text(CHATML, *contents)


def test_found_D8_a_thought_that_is_stripped_does_not_hide_a_doubled_end():
    chat = ("hello", "<think>\n\n</think>\n\nthere<|im_end|>", "and you?", "hm")
    assert "<|im_end|><|im_end|>" not in text(QWEN_3, *chat)
