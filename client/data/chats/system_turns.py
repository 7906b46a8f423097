"""A system's turn put into a user's, for templates that take none."""

from dataclasses import replace

from client.data.chats.chat import Chat
from client.data.chats.messages import Message
from client.data.row_checks import BadRow

FOLDABLE = ("system", "developer")


def fold_system(chat: Chat) -> Chat:
    """Return a chat whose system's turns begin the next user's turn, with a blank line between.

    Raises:
        BadRow: no user's turn comes after one.
    """
    folded: list[Message] = []
    waiting: list[str] = []
    for message in chat.messages:
        if message["role"] in FOLDABLE:
            waiting.append(message["content"])
        elif waiting and message["role"] == "user":
            folded.append({**message, "content": "\n\n".join([*waiting, message["content"]])})
            waiting = []
        else:
            folded.append(message)
    if waiting:
        raise BadRow('has a system turn and no user\'s turn after it, so system = "fold" cannot put it anywhere')
    gone = sum(message["role"] in FOLDABLE for message in chat.messages[: chat.begin])
    return replace(chat, messages=tuple(folded), begin=max(1, chat.begin - gone))
