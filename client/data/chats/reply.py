"""Where the assistant's next turn begins: the tokens that training saw before a turn that it learned."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from client.data.chats.chat import Chat
from client.data.chats.system_turns import fold_system
from client.data.chats.template import fit, has_template, marks_replies, render
from client.data.chats.tokens import marked_tokens
from client.data.row_checks import BadRow
from client.data.tokens import text_ids
from common.errors import DataError


def reply_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], fold: bool = False
) -> list[int]:
    """Return the ids (t,) after which the assistant's next turn is written: those before a turn that was learned.

    Args:
        tokenizer: of the base model, or with another template.
        messages: of `role` and `content`; the last one is another's.
        fold: put a system's turn into the user's.

    Raises:
        DataError: the tokenizer has no chat template, or the template rejects the chat.
    """
    if not has_template(tokenizer):
        raise DataError(
            "the tokenizer of the base model has no chat template; give a bare prompt, or use an instruct model"
        )
    chat = Chat(tuple(messages))
    try:
        if marks_replies(tokenizer):
            return _before_reply(tokenizer, fold_system(chat) if fold else chat)
        text = render(tokenizer, fit(tokenizer, chat, fold)[0], reply=True)
    except BadRow as fault:
        raise DataError(f"the chat {fault}") from None
    return text_ids(tokenizer, [text], add_special_tokens=False, verbose=False)[0]


def _before_reply(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> list[int]:
    """Return the ids before the marks of one more turn: a template with marks may open a turn only together with it."""
    longer = fit(tokenizer, Chat((*chat.messages, {"role": "assistant", "content": "."})), fold=False)[0]
    ids, learned = marked_tokens(tokenizer, longer)
    start = len(ids)
    while start and not learned[start - 1]:
        start -= 1
    while start and learned[start - 1]:
        start -= 1
    return ids[:start]
