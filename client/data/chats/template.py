"""Rendering of chats by a chat template, in the form that the template takes, or with the reason why it takes none."""

import re
from dataclasses import replace
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from client.data.chats.chat import Chat
from client.data.chats.forms import check_form, forms_of
from client.data.chats.messages import LEARNED
from client.data.chats.special_words import without_doubles
from client.data.chats.system_turns import FOLDABLE, fold_system
from client.data.row_checks import BadRow

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether chats can be rendered."""
    try:
        return bool(tokenizer.get_chat_template())
    except ValueError:
        return False


def marks_replies(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the template, which the tokenizer must have, marks the assistant's words itself."""
    return tokenizer.is_fast and bool(_GENERATION.search(tokenizer.get_chat_template()))


def mentions(tokenizer: PreTrainedTokenizerBase, word: str) -> bool:
    """Return whether this word is in the template, for tools or without them."""
    return word in tokenizer.get_chat_template() or word in tokenizer.get_chat_template(tools=[])


def apply_template(tokenizer: PreTrainedTokenizerBase, chat: Chat, **settings: Any) -> Any:
    """Return what `apply_chat_template` makes of a chat."""
    messages = [{key: value for key, value in each.items() if key != LEARNED} for each in chat.messages]
    tools = [*map(dict[Any, Any], chat.tools)]
    return tokenizer.apply_chat_template(messages, tools=[*tools] or None, **settings)


def render(tokenizer: PreTrainedTokenizerBase, chat: Chat, reply: bool = False) -> str:
    """Return the text of a chat; with `reply`, also what an assistant's turn begins with.

    Raises:
        BadRow: the template rejects it, or writes half a surrogate pair.
    """
    try:
        text = apply_template(tokenizer, chat, add_generation_prompt=reply, tokenize=False)
    except Exception as error:  # A template is a program: whatever it trips over is raised.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadRow(f"is rejected by the chat template ({reason})") from None
    if re.search("[\ud800-\udfff]", str(text)):
        raise BadRow("contains half a surrogate pair")
    return str(text)


def fit(tokenizer: PreTrainedTokenizerBase, chat: Chat, fold: bool) -> tuple[Chat, str]:
    """Return a chat as the template takes it, and its text; with `fold`, a system's turn is put into a user's.

    Raises:
        BadRow: the template takes it in no form, or leaves out a call of a tool.
    """
    chat = fold_system(chat) if fold else chat
    faults = []
    for form in forms_of(chat, mentions(tokenizer, "developer")):
        try:
            text = render(tokenizer, form)
            check_form(form, text)
        except BadRow as fault:
            faults.append(fault)
            continue
        _check_calls(tokenizer, form, text)
        plain = without_doubles(tokenizer, form, partial(render, tokenizer))
        return (form, text) if plain is form else (plain, render(tokenizer, plain))
    raise _with_remedy(tokenizer, chat, faults[0])


def _check_calls(tokenizer: PreTrainedTokenizerBase, chat: Chat, text: str) -> None:
    """Raise BadRow if the text is that of the chat without its calls of tools."""
    called = [call["function"]["name"] for each in chat.messages for call in each.get("tool_calls", ())]
    if not called:
        return
    silent = [{key: value for key, value in each.items() if key != "tool_calls"} for each in chat.messages]
    try:
        same = render(tokenizer, replace(chat, messages=tuple(silent))) == text
    except BadRow:
        return
    if same:
        raise BadRow(
            f"has a call of the tool {called[0]!r}, which the chat template leaves out; set chat_template = FILE "
            "(in a recipe: [data] chat_template) to one that writes tool_calls"
        )


def _with_remedy(tokenizer: PreTrainedTokenizerBase, chat: Chat, fault: BadRow) -> BadRow:
    """Return the fault, in our words where the template takes no system's turn."""
    if not any(each["role"] in FOLDABLE for each in chat.messages):
        return fault
    try:
        render(tokenizer, fold_system(chat))
    except BadRow:
        return fault
    return BadRow(
        'has a system turn, which the chat template does not take; set system = "fold" (in a recipe: [data] system) '
        f"to put it into the user's turn ({fault})"
    )
