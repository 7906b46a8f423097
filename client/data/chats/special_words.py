"""Special tokens that a message already has where the template writes them: none is doubled."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from client.data.chats.chat import Chat
from client.data.chats.messages import Message


def without_doubles(tokenizer: PreTrainedTokenizerBase, chat: Chat, text: str) -> Chat:
    """Return a chat without the special tokens that begin or end a message and are then doubled in its text."""
    special, contents = _special(tokenizer), [message["content"] for message in chat.messages]
    if not all(isinstance(content, str) for content in contents):
        return chat
    if not any(_begins_or_ends(content, special) for content in contents):
        return chat
    doubled = [each for each in special if _count(each, text) > sum(_count(each, content) for content in contents)]
    messages = tuple(_without(message, doubled) for message in chat.messages)
    return chat if messages == chat.messages else replace(chat, messages=messages)


@lru_cache(maxsize=4)
def _special(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    return tuple(each.content for each in tokenizer.added_tokens_decoder.values() if each.special)


def _count(special: str, text: str) -> int:
    """Return how often a special token comes right after itself, blanks aside."""
    return len(re.findall(rf"{re.escape(special)}(?=\s*{re.escape(special)})", text)) if special in text else 0


def _begins_or_ends(content: str, special: tuple[str, ...]) -> bool:
    return content.lstrip().startswith(special) or content.rstrip().endswith(special)


def _without(message: Message, doubled: Sequence[str]) -> Message:
    content = message["content"]
    for each in doubled:
        if content.lstrip().startswith(each):
            content = content.lstrip().removeprefix(each)
        if content.rstrip().endswith(each):
            content = content.rstrip().removesuffix(each)
    return {**message, "content": content} if content.strip() and content != message["content"] else message
