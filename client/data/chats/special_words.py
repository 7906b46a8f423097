"""Special tokens that a message already has where the template writes them: none is doubled.

A mark in place of a message's words shows what the template writes around them, which is taken off the words where they
begin or end with some of it; as is a text's beginning, wherever the template writes it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from client.data.chats.chat import Chat

Render = Callable[[Chat], str]
MARK = "\ue0f0\ue0f1"
"""Stands for the words of a message."""
_NEAR = 1000
"""Characters before and after a message that a template writes, at most."""


def without_doubles(tokenizer: PreTrainedTokenizerBase, chat: Chat, render: Render) -> Chat:
    """Return a chat without the special tokens that begin or end a message, and that the template writes there too.

    Args:
        tokenizer: with the template.
        chat: in the form that the template takes.
        render: returns the text of such a chat.
    """
    special = _special(tokenizer)
    for number, message in enumerate(chat.messages):
        content = message["content"]
        if isinstance(content, str) and _begins_or_ends(content, special):
            head, tail = _around(chat, number, special, render)
            plain = _without(content, head, tail, special, tokenizer.bos_token)
            chat = _said(chat, number, plain) if plain.strip() and plain != content else chat
    return chat


@lru_cache(maxsize=4)
def _special(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    return tuple(each.content for each in tokenizer.added_tokens_decoder.values() if each.special)


def _begins_or_ends(content: str, special: tuple[str, ...]) -> bool:
    return content.lstrip().startswith(special) or content.rstrip().endswith(special)


def _around(chat: Chat, number: int, special: Sequence[str], render: Render) -> tuple[str, str]:
    """Return what is before the special token that a message begins with, and after that which it ends with.

    Nothing is where the template does not write that token there.
    """
    content, text = chat.messages[number]["content"], render(chat)
    first = next((each for each in special if content.lstrip().startswith(each)), MARK)
    last = next((each for each in special if content.rstrip().endswith(each)), MARK)
    head, _, tail = render(_said(chat, number, MARK)).partition(MARK)
    before, after = content.partition(first)[0], content.rpartition(last)[2]
    begins = any(f"{head[-_NEAR:]}{blanks}{first}" in text for blanks in (before, ""))
    ends = any(f"{last}{blanks}{tail[:_NEAR]}" in text for blanks in (after, ""))
    return head if begins else "", tail if ends else ""


def _said(chat: Chat, number: int, words: str) -> Chat:
    messages = [*chat.messages]
    messages[number] = {**messages[number], "content": words}
    return replace(chat, messages=tuple(messages))


def _without(content: str, head: str, tail: str, special: tuple[str, ...], beginning: str | None) -> str:
    """Return a content without its longest beginning that ends the head, and its longest end that begins the tail."""
    near, after = head[-_NEAR:], tail[:_NEAR]
    begins = {near[place:].strip() for each in special for place in _places(near, each)}
    ends = {after[: place + len(each)].strip() for each in special for place in _places(after, each)}
    if beginning and head.startswith(beginning) and content.lstrip().startswith(beginning):
        content = content.lstrip().removeprefix(beginning)
    if found := max((each for each in begins if content.lstrip().startswith(each)), key=len, default=""):
        content = content.lstrip().removeprefix(found).lstrip()
    if found := max((each for each in ends if content.rstrip().endswith(each)), key=len, default=""):
        content = content.rstrip().removesuffix(found).rstrip()
    return content


def _places(text: str, word: str) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(word), text)]
