"""Tokenisation of chats, with a mark on each token that the assistant wrote: only those are learned."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from client.data.chats.chat import Chat
from client.data.chats.template import apply_template, fit, has_template, marks_replies
from client.data.chats.turns import Span, find_turns
from client.data.row_checks import BadRow, read_each
from client.data.tokens import Tokens
from common.errors import DataError

_BATCH = 128
"""Chats that are tokenised together: the places of tokens take thirty times the memory of their ids."""


def chat_tokens(
    chats: Sequence[tuple[int, Chat]], tokenizer: PreTrainedTokenizerBase, file: Path, fold: bool = False
) -> tuple[Tokens, ...]:
    """Return ids (t,) and learned (t,) of each chat by the chat template; each chat comes with its line in the file.

    If the template marks the assistant's words with `{% generation %}`, the marks decide. Otherwise a token is learned
    if any of it is in one of the assistant's turns in the rendered text, which ends with the end of the turn.

    Args:
        chats: with their lines.
        tokenizer: of the base model, or with another template.
        file: that they are of.
        fold: put a system's turn into the user's.

    Raises:
        DataError: the tokenizer has no chat template, or a chat cannot be used.
    """
    if not has_template(tokenizer):
        raise DataError(
            f"{file} contains chats, but the tokenizer of the base model has no chat template; use an instruct model, "
            "set chat_template = FILE (in a recipe: [data] chat_template), or give prompt and completion columns"
        )
    fitted = read_each(file, chats, lambda chat: fit(tokenizer, chat, fold))
    numbered = list(zip((line for line, _ in chats), fitted, strict=True))
    if marks_replies(tokenizer):
        return read_each(file, numbered, lambda each: marked_tokens(tokenizer, each[0]))
    if not tokenizer.is_fast:
        return read_each(file, numbered, lambda each: _by_prefixes(tokenizer, each[0]))
    spans = read_each(file, numbered, lambda each: find_turns(tokenizer, *each))
    return _learned(tokenizer, [text for _, text in fitted], spans)


def _learned(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], spans: Sequence[Sequence[Span]]
) -> tuple[Tokens, ...]:
    tokens: list[Tokens] = []
    for begin in range(0, len(texts), _BATCH):
        read = tokenizer(
            texts[begin : begin + _BATCH],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        places = (np.array(each, np.int64).reshape(-1, 2) for each in read["offset_mapping"])
        tokens += [
            (ids, _overlap(each, turns).tolist())
            for ids, each, turns in zip(read["input_ids"], places, spans[begin : begin + _BATCH], strict=True)
        ]
    return tuple(tokens)


def _overlap(places: NDArray[np.int64], turns: Sequence[Span]) -> NDArray[np.bool_]:
    """Return which tokens have a character in one of these turns, by the place of each token (t, 2).

    A blank may have a place without characters; it then has those from the end of the token before it.
    """
    start, end = places.T
    before = np.maximum.accumulate(np.concatenate([[0], end]))[:-1]
    start = np.where(start == end, np.minimum(before, start), start)
    learned = np.zeros(len(places), bool)
    for first, last in turns:
        learned |= (start < last) & (end > first)
    return learned


def marked_tokens(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> Tokens:
    """Return ids (t,) and learned (t,) by the marks of the template."""
    tokens = _apply(tokenizer, chat, return_assistant_tokens_mask=True)
    ids, learned = tokens["input_ids"], [bool(mark) for mark in tokens["assistant_masks"]]
    given = _begun(tokenizer, chat, chat.begin, ids) if chat.begin > 1 else 0
    if given is None:
        raise _lost(chat.begin - 1)
    learned[:given] = [False] * given
    for turn in (turn for turn in chat.turns if turn >= chat.begin and turn not in chat.replies):
        begin, end = _marked_turn(tokenizer, chat, turn, ids)
        learned[begin:end] = [False] * (end - begin)
    return ids, learned


def _marked_turn(tokenizer: PreTrainedTokenizerBase, chat: Chat, turn: int, ids: Sequence[int]) -> Span:
    """Return tokens that have all of a turn's marks and no other's, from beginnings that are as in the whole chat.

    Raises:
        BadRow: there are none such.
    """
    before = max((other for other in chat.turns if other < turn), default=-1)
    after = min((other for other in chat.turns if other > turn), default=len(chat.messages))
    begins = (_begun(tokenizer, chat, count, ids) for count in range(turn, before, -1))
    ends = (_begun(tokenizer, chat, count, ids) for count in range(turn + 1, after + 1))
    begin, end = (next((count for count in each if count is not None), None) for each in (begins, ends))
    if begin is None or end is None:
        raise _lost(turn)
    return begin, end


def _lost(turn: int) -> BadRow:
    return BadRow(
        f"has a message ({turn}) that is not to be learned and cannot be located in the chat template's output; end "
        "the chat before it, or use another template, as chat_template = FILE (in a recipe: [data] chat_template)"
    )


def _begun(tokenizer: PreTrainedTokenizerBase, chat: Chat, count: int, ids: Sequence[int]) -> int | None:
    """Return the number of tokens of a chat's first messages, if the whole chat begins with them."""
    if count in (0, len(chat.messages)):
        return len(ids) if count else 0
    try:
        begun = _apply(tokenizer, replace(chat, messages=chat.messages[:count]))["input_ids"]
    except Exception:  # A template is a program, which may take no chat that ends here.
        return None
    return len(begun) if ids[: len(begun)] == begun else None


def _by_prefixes(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> Tokens:
    """Compare tokens, as a tokenizer in Python does not tell their places."""
    ids = _apply(tokenizer, chat)["input_ids"]
    learned = [False] * len(ids)
    for turn in chat.replies:
        before = _apply(tokenizer, Chat(chat.messages[:turn], chat.tools), add_generation_prompt=True)["input_ids"]
        after = _apply(tokenizer, Chat(chat.messages[: turn + 1], chat.tools))["input_ids"]
        if ids[: len(before)] != before or ids[: len(after)] != after:
            raise BadRow(
                f"has a turn of the assistant ({turn}) that cannot be located in the chat template's output; use a "
                "fast tokenizer (tokenizer.json)"
            )
        learned[len(before) : len(after)] = [True] * (len(after) - len(before))
    return ids, learned


def _apply(tokenizer: PreTrainedTokenizerBase, chat: Chat, **settings: bool) -> Mapping[str, list[int]]:
    tokens: Mapping[str, list[int]] = apply_template(
        tokenizer, chat, return_dict=True, tokenizer_kwargs={"verbose": False}, **settings
    )
    return tokens
