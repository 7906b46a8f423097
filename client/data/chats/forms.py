"""The forms in which a template may take a chat, and whether a text shows that it took one."""

import re
from collections.abc import Iterator
from dataclasses import replace

from client.data.chats.chat import Chat
from client.data.chats.messages import Message
from client.data.chats.tool_calls import arguments_of, with_text_arguments
from client.data.row_checks import BadRow


def forms_of(chat: Chat, knows_developer: bool) -> Iterator[Chat]:
    """Yield a chat as it is, then with arguments of calls as text, then with contents as lists of parts."""
    if not knows_developer:
        chat = replace(chat, messages=tuple(map(_as_system, chat.messages)))
    yield chat
    if any("tool_calls" in each for each in chat.messages):
        yield replace(chat, messages=tuple(map(with_text_arguments, chat.messages)))
    yield replace(chat, messages=tuple(map(in_parts, chat.messages)))


def in_parts(message: Message) -> Message:
    """Return a message whose content is a list of one part."""
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def check_form(chat: Chat, text: str) -> None:
    """Check the text of a chat in one of its forms.

    Raises:
        BadRow: it shows values as Python writes them, or lacks what the last message or a system or user says.
    """
    if any(str(each) in text for each in arguments_of(chat.messages)) or "[{'type': 'text'," in text:
        raise BadRow("is rejected by the chat template (it writes calls or parts as Python does)")
    if _lacks(text, chat.messages[-1]):
        raise BadRow(f"ends with a message that the chat template leaves out ({_longest_word(chat.messages[-1])!r})")
    for message in (each for each in chat.messages if each["role"] in ("system", "developer", "user")):
        if _lacks(text, message):
            raise BadRow(f"has a {message['role']} turn that the chat template leaves out ({_longest_word(message)!r})")


def _lacks(text: str, message: Message) -> bool:
    return _longest_word(message).lower() not in text.lower()


def _longest_word(message: Message) -> str:
    """Return the longest word of a message's content, a text or a list of one part, behind its thoughts."""
    content = message["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    said = text.rpartition("</think>")[2]
    return max(re.findall(r"\w+", said), key=len, default="")


def _as_system(message: Message) -> Message:
    return {**message, "role": "system"} if message["role"] == "developer" else message
