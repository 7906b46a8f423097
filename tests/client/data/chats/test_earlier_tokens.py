"""Chats whose turns can be told by tokens alone, as in earlier releases, have the same tokens and marks."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.chats.chat import Chat
from client.data.chats.tokens import _by_prefixes, chat_tokens
from client.data.row_checks import BadRow
from tests.helpers.client.chat_templates import BLANK, CHATML, LLAMA_3, MISTRAL, QWEN_3, chat_tokenizer

PIECES = [
    "hello",
    "  there",
    " ",
    "\n",
    "\n\n",
    "\t",
    "</think>",
    "<think>",
    "é",
    "日本",
    "🙂",
    "Paris is",
    ":",
    "assistant",
]
CONTENT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join).filter(str.strip)
CHATS = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=3)


@pytest.mark.parametrize("trims", [False, True], ids=["whole", "trimmed"])
@pytest.mark.parametrize(
    ("template", "always"),
    [(CHATML, True), (LLAMA_3, True), (MISTRAL, True), (BLANK, False), (QWEN_3, False)],
    ids=["chatml", "llama", "mistral", "blank", "qwen"],
)
@given(turns=CHATS)
@settings(max_examples=40, deadline=None)
def test_what_was_read_before_is_read_as_it_was(template, always, trims, turns):
    tokenizer = chat_tokenizer(template, trims=trims)
    roles = ("user", "assistant")
    chat = Chat(
        tuple({"role": role, "content": each} for turn in turns for role, each in zip(roles, turn, strict=True))
    )
    (found,) = chat_tokens([(1, chat)], tokenizer, Path("rows.jsonl"))
    try:
        assert found == _by_prefixes(tokenizer, chat)
    except BadRow:
        assert not always
