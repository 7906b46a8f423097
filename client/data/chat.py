"""Tokenisation of chats, with a mark on each token that the assistant wrote: only those are learned."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from client.data.row_checks import BadRow, read_text
from client.data.rows import Row
from common.errors import DataError

Chat = list[dict[str, str]]
Tokens = tuple[list[int], list[bool]]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def chat_tokens(column: str, tokenizer: PreTrainedTokenizerBase, file: Path) -> Callable[[Row], Tokens]:
    """Return a function that turns a row into ids (t,) and learned (t,) by the chat template, and may raise BadRow.

    If the template marks the assistant's words with `{% generation %}`, the marks decide. Otherwise the tokens of each
    of its turns are those that the turn adds to the chat before it, which ends in the prompt for a reply.

    Raises:
        DataError: the tokenizer has no chat template.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError:
        raise DataError(
            f"{file} contains chats in {column!r}, but the tokenizer of the base model has no chat template; "
            "use an instruct model, or give prompt and completion columns"
        ) from None
    tokens = _mark_replies if tokenizer.is_fast and _GENERATION.search(template) else _compare_prefixes

    def encode(row: Row) -> Tokens:
        chat = _chat(row.fields.get(column), column)
        try:
            return tokens(chat, tokenizer)
        except TemplateError as error:
            raise BadRow(f"{column!r} is rejected by the chat template ({error})") from None

    return encode


def _chat(value: Any, column: str) -> Chat:
    if not isinstance(value, list) or not value:
        raise BadRow(f'{column!r} is not a list of {{"role": ..., "content": ...}}')
    chat = [_message(message, f"{column}[{number}]") for number, message in enumerate(value)]
    if all(message["role"] != "assistant" for message in chat[1:]):
        raise BadRow(f"{column!r} has no turn of the assistant after another's turn, so nothing to learn")
    return chat


def _message(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise BadRow(f'{name} is not {{"role": ..., "content": ...}} but {type(value).__name__}')
    named = {f"{name}.{key}": value.get(key) for key in ("role", "content")}
    return {key: read_text(named, f"{name}.{key}") for key in ("role", "content")}


def _mark_replies(chat: Chat, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    tokens = _apply(tokenizer, chat, marks=True)
    return tokens["input_ids"], [bool(mark) for mark in tokens["assistant_masks"]]


def _compare_prefixes(chat: Chat, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    ids = _apply(tokenizer, chat)["input_ids"]
    learned = [False] * len(ids)
    for turn in (turn for turn, message in enumerate(chat) if turn and message["role"] == "assistant"):
        before = _apply(tokenizer, chat[:turn], reply=True)["input_ids"]
        after = _apply(tokenizer, chat[: turn + 1])["input_ids"]
        if ids[: len(before)] != before or ids[: len(after)] != after:
            raise BadRow(
                f"has a turn of the assistant ({turn}) that cannot be located in the chat template's output; "
                "use a template with {% generation %} marks"
            )
        learned[len(before) : len(after)] = [True] * (len(after) - len(before))
    return ids, learned


def _apply(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, reply: bool = False, marks: bool = False
) -> Mapping[str, list[int]]:
    tokens: Any = tokenizer.apply_chat_template(
        chat,
        add_generation_prompt=reply,
        return_dict=True,
        return_assistant_tokens_mask=marks,
        tokenizer_kwargs={"verbose": False},
    )
    return tokens  # type: ignore[no-any-return]
