"""A chat as it is given to a template, read from the columns of a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.data.chats.messages import LEARNED, Message, list_of, read_messages
from client.data.chats.tool_calls import read_tools
from client.data.row_checks import BadRow, is_filled, read_text


@dataclass(frozen=True)
class Chat:
    """A chat.

    Args:
        messages: in order.
        tools: that the assistant may call.
        begin: number of the first message that may be learned.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    begin: int = 1

    @property
    def replies(self) -> list[int]:
        """Numbers of the messages that are learned: the assistant's, but for those that say that they are not."""
        return [n for n in self.turns if n >= self.begin and self.messages[n].get(LEARNED, True)]

    @property
    def turns(self) -> list[int]:
        """Numbers of the assistant's messages."""
        return [number for number, each in enumerate(self.messages) if each["role"] == "assistant"]


def read_chat(fields: Mapping[str, Any], column: str, system: str = "", tools: Sequence[str] = ()) -> Chat:
    """Return the chat in a column, with the tools in the first of others that is filled, and a system's turn.

    The system's turn is in a column of its own, if the chat has none itself.

    Raises:
        BadRow: it is no chat, or has nothing to learn.
    """
    messages = read_messages(fields.get(column), column)
    if is_filled(fields.get(system)) and all(message["role"] != "system" for message in messages):
        messages = ({"role": "system", "content": read_text(fields, system)}, *messages)
    told = next((name for name in tools if is_filled(fields.get(name))), "")
    return _with_replies(Chat(messages, read_tools(fields.get(told), told)), column)


def read_two(fields: Mapping[str, Any], prompt: str, completion: str) -> Chat:
    """Return the chat that begins with the messages of one column, and ends with those of another, which are learned.

    Raises:
        BadRow: one of them is no chat, or there is nothing to learn.
    """
    given, learned = (read_messages(fields.get(column), column) for column in (prompt, completion))
    return _with_replies(Chat((*given, *learned), begin=len(given)), completion)


def read_answers(fields: Mapping[str, Any], prompt: str, chosen: str, rejected: str) -> tuple[Chat, Chat]:
    """Return the chats that end with each of two answers, of which only the answers are learned.

    What was given is in the prompt's column as messages, or the messages that both answers begin with, or the prompt's
    text as a user's turn.

    Raises:
        BadRow: one of them is no chat, nothing was given, or an answer has nothing to learn.
    """
    both = [read_messages(fields.get(column), column) for column in (chosen, rejected)]
    given: tuple[Message, ...] = ()
    count = next((n for n, (a, b) in enumerate(zip(*both, strict=False)) if a != b), min(map(len, both)))
    if list_of(fields.get(prompt)):
        given, count = read_messages(fields[prompt], prompt), 0
    elif not count:
        given = ({"role": "user", "content": read_text(fields, prompt)},)
    begin = len(given) + count
    ends = zip((chosen, rejected), both, strict=True)
    first, second = (_with_replies(Chat((*given, *answer), begin=begin), column) for column, answer in ends)
    return first, second


def _with_replies(chat: Chat, column: str) -> Chat:
    if not chat.replies:
        silent = " whose weight is not 0" * any(turn >= chat.begin for turn in chat.turns)
        raise BadRow(f"{column!r} has no turn of the assistant after another's turn{silent}, so nothing to learn")
    return chat
