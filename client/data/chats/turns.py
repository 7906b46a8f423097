"""Where the assistant's turns are in the text of a chat: from what begins a reply to what ends its turn.

Where each beginning of a chat is rendered as it is in the whole, the turn is what it adds. Other templates leave
thoughts out of earlier turns, or end only the last turn; there a mark in place of a turn's words shows where these are,
and what is written before and after them.
"""

from collections.abc import Mapping
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from client.data.chats.chat import Chat
from client.data.chats.forms import in_parts
from client.data.chats.special_words import MARK
from client.data.chats.template import render
from client.data.row_checks import BadRow

Span = tuple[int, int]


def find_turns(tokenizer: PreTrainedTokenizerBase, chat: Chat, text: str) -> list[Span]:
    """Return where in its text each turn of a chat is that is learned and rendered.

    Raises:
        BadRow: that cannot be told.
    """
    if (spans := _by_beginnings(tokenizer, chat, text)) is not None:
        return spans
    found: list[Span] = []
    for turn in chat.replies:
        span = _by_mark(tokenizer, chat, text, turn, found[-1][1] if found else 0)
        found += [span] if span else []
    return found


def _by_beginnings(tokenizer: PreTrainedTokenizerBase, chat: Chat, text: str) -> list[Span] | None:
    spans = []
    for turn in chat.replies:
        try:
            before = render(tokenizer, _beginning(chat, turn), reply=True)
            after = render(tokenizer, _beginning(chat, turn + 1))
        except BadRow:
            return None
        if not (after.startswith(before) and text.startswith(after)):
            return None
        spans.append((len(before), len(after)))
    return spans


def _by_mark(tokenizer: PreTrainedTokenizerBase, chat: Chat, text: str, turn: int, begin: int) -> Span | None:
    """Return where a turn is, after the place where another one has ended; None if it is not rendered."""
    marked = render(tokenizer, _with_mark(chat, turn))
    if marked == text and not chat.messages[turn].get("tool_calls"):
        return None
    words = _difference(text, marked)
    if marked.count(MARK) != 1 or words[0] < begin:
        raise _lost(turn)
    opening = _opening(tokenizer, chat, turn)
    start = text.rfind(opening, begin, words[0]) + len(opening) if opening else words[0]
    if opening and start < begin + len(opening):
        raise _lost(turn)
    ending = _ending(tokenizer, chat, turn)
    return start, words[1] + _shared_tokens(tokenizer, ending, text[words[1] :])


def _opening(tokenizer: PreTrainedTokenizerBase, chat: Chat, turn: int) -> str:
    """Return what the template writes before a reply, as it is in a chat that ends with this one.

    What it writes there without being asked for a reply, as an empty thought, is part of the reply.
    """
    given = _beginning(chat, turn)
    bare, asked = render(tokenizer, given), render(tokenizer, given, reply=True)
    marked = render(tokenizer, _with_mark(_beginning(chat, turn + 1), turn))
    head = marked[: marked.find(MARK)]
    given_end = min(_shared(bare, asked), _shared(bare, head))
    asked, head = asked[given_end:], head[given_end:]
    common = _shared(asked, head)
    if common < min(len(asked), len(head)):
        raise _lost(turn)
    return asked[:common]


def _ending(tokenizer: PreTrainedTokenizerBase, chat: Chat, turn: int) -> str:
    """Return what the template writes after a turn's words in a chat that ends with them."""
    ended = _beginning(chat, turn + 1)
    text = render(tokenizer, ended)
    return text[_difference(text, render(tokenizer, _with_mark(ended, turn)))[1] :]


def _difference(text: str, marked: str) -> Span:
    """Return where in a text the words are that a mark has replaced."""
    start = _shared(text, marked)
    return start, len(text) - _shared(text[start:][::-1], marked[start:][::-1])


def _shared(one: str, other: str) -> int:
    """Return with how many equal characters two texts begin."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _shared_tokens(tokenizer: PreTrainedTokenizerBase, one: str, other: str) -> int:
    """Return with how many equal characters two texts begin, but for a special token that only one of them has."""
    count = _shared(one, other)
    parts = (
        place
        for word in tokenizer.get_added_vocab()
        for place in range(max(0, count - len(word) + 1), count)
        if place + len(word) > count and (one.startswith(word, place) or other.startswith(word, place))
    )
    return min([count, *parts])


def _beginning(chat: Chat, count: int) -> Chat:
    return replace(chat, messages=chat.messages[:count])


def _with_mark(chat: Chat, turn: int) -> Chat:
    messages: list[Mapping[str, object]] = [*chat.messages]
    marked = {**messages[turn], "content": MARK}
    messages[turn] = marked if isinstance(messages[turn]["content"], str) else in_parts(marked)
    return replace(chat, messages=tuple(messages))


def _lost(turn: int) -> BadRow:
    return BadRow(
        f"has a turn of the assistant ({turn}) that cannot be located in the chat template's output; use a template "
        "with {% generation %} marks, as chat_template = FILE (in a recipe: [data] chat_template)"
    )
