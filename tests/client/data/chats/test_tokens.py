import os
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from client.data.chats.chat import read_chat
from client.data.chats.tokens import chat_tokens
from client.data.row_checks import BadRow, BadRows
from common.errors import DataError
from tests.helpers.client.toy_tokenizer import MARKED_CHAT, PLAIN_CHAT, word_tokenizer, words

os.environ["HF_HUB_OFFLINE"] = "1"

FILE = Path("rows.jsonl")
FORGETFUL_CHAT = (
    "{% for message in messages %}{% if loop.last or message.role == 'user' %}"
    "{{ message.role + ' ' + message.content + ' <eos>' }}{% endif %}{% endfor %}"
)
OTHER_OPENING_CHAT = PLAIN_CHAT.replace("'assistant '", "'system '")
STRICT_CHAT = "{% if messages[0].role != 'user' %}{{ raise_exception('start with the user') }}{% endif %}" + PLAIN_CHAT


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


TWO_TURNS = [turn("user", "w1 w2"), turn("assistant", "w3"), turn("user", "w4"), turn("assistant", "w5 w6")]


def tokenizer_with(template: str) -> PreTrainedTokenizerBase:
    tokenizer = word_tokenizer(eos_token="<eos>")
    tokenizer.chat_template = template
    return tokenizer


def encode(chat: object, template: str) -> tuple[list[int], list[bool]]:
    ((ids, learned),) = chat_tokens([(1, read_chat({"messages": chat}, "messages"))], tokenizer_with(template), FILE)
    return ids, learned


@pytest.mark.parametrize("template", [PLAIN_CHAT, MARKED_CHAT], ids=["by prefixes", "by marks"])
def test_only_what_the_assistant_says_is_learned(template: str) -> None:
    ids, learned = encode(TWO_TURNS, template)
    assert ids == words("user w1 w2 <eos> assistant w3 <eos> user w4 <eos> assistant w5 w6 <eos>")
    assert [n for n, mark in zip(ids, learned, strict=True) if mark] == words("w3 <eos> w5 w6 <eos>")
    assert learned == [False] * 5 + [True] * 2 + [False] * 4 + [True] * 3


def test_marks_decide_where_a_template_has_them() -> None:
    without_end = MARKED_CHAT.replace(
        "{{ message.content + ' <eos>' }}{% endgeneration %}", "{{ message.content }}{% endgeneration %}{{ ' <eos>' }}"
    )
    ids, learned = encode(TWO_TURNS, without_end)
    assert [n for n, mark in zip(ids, learned, strict=True) if mark] == words("w3 w5 w6")


def test_a_system_turn_is_not_learned() -> None:
    ids, learned = encode([turn("system", "w7"), *TWO_TURNS[:2]], PLAIN_CHAT)
    assert ids[:2] == words("system w7")
    assert [n for n, mark in zip(ids, learned, strict=True) if mark] == words("w3 <eos>")


def test_a_template_whose_turns_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(BadRows, match=r"turn of the assistant \(1\) that cannot be located.*{% generation %}"):
        encode(TWO_TURNS, OTHER_OPENING_CHAT)


def test_a_turn_that_the_template_leaves_out_is_not_looked_for() -> None:
    ids, learned = encode(TWO_TURNS, FORGETFUL_CHAT)
    assert ids == words("user w1 w2 <eos> user w4 <eos> assistant w5 w6 <eos>")
    assert [n for n, mark in zip(ids, learned, strict=True) if mark] == words("w5 w6 <eos>")


def test_what_the_template_refuses_is_refused() -> None:
    with pytest.raises(BadRows, match=r"rejected by the chat template \(start with the user"):
        encode([turn("system", "w7"), *TWO_TURNS], STRICT_CHAT)


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        (None, "'messages' is not a list"),
        ("hello", "'messages' is not a list"),
        ([], "'messages' is not a list"),
        (["hello"], r"messages\[0\] is not .* but str"),
        ([{"role": "user"}], r"'messages\[0\]' has no 'content' or 'value', but 'role'"),
        ([{"role": "user", "content": None}], r"'messages\[0\].content' is empty"),
        ([turn("user", "w1"), turn("assistant", " ")], r"'messages\[1\].content' is blank"),
        ([{"role": 1, "content": "w1"}], r"'messages\[0\].role' is not text but int"),
        ([turn("user", "w1")], "no turn of the assistant"),
        ([turn("assistant", "w1"), turn("user", "w2")], "no turn of the assistant"),
    ],
)
def test_broken_chats_are_refused(chat: object, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        encode(chat, PLAIN_CHAT)


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl contains chats.*no chat template.*set chat_template = FILE"):
        chat_tokens([], word_tokenizer(), FILE)
