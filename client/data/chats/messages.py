"""Chats as files have them, in one form: messages with `role` and `content`, and with calls of tools.

Read are OpenAI's messages (content as parts, calls of tools) and ShareGPT's turns of `from` and `value`; a list may be
the text of one, as a CSV file has it. A message of the assistant may say that it is not learned.
"""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from client.data.chats.tool_calls import as_call, calls_of, read_json
from client.data.row_checks import BadRow, read_text

Message = Mapping[str, Any]

ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "bing", "bard"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "function_call"),
    **{name: name for name in ("system", "developer")},
}
"""Role by the name that ShareGPT's files and others have for it; a `function_call` becomes an assistant's turn."""

LEARNED = "learned"
"""Key of a message that says, by False, that it is not learned; templates do not get it."""
_WEIGHTS = ("weight", "train", "training", "loss")
"""Names that files have for it: OpenAI's, Axolotl's and SWIFT's."""
_TEXT_PARTS = ("text", "input_text", "output_text")


def read_messages(value: Any, column: str) -> tuple[Message, ...]:
    """Return the messages of a chat, each with `role` and `content`.

    Raises:
        BadRow: it is no chat; says which message, and why.
    """
    turns = list_of(value)
    if not turns:
        raise BadRow(f'{column!r} is not a list of {{"role": ..., "content": ...}} or {{"from": ..., "value": ...}}')
    for number, turn in enumerate(turns):
        if not isinstance(turn, Mapping):
            raise BadRow(f'{column}[{number}] is not {{"role": ..., "content": ...}} but {type(turn).__name__}')
    foreign = all(turn.get("role") != "assistant" for turn in turns)
    read = (_message(turn, f"{column}[{number}]", foreign) for number, turn in enumerate(turns))
    return tuple(message for message in read if message)


def list_of(value: Any) -> Sequence[Any]:
    """Return a list; or that of a text in JSON or in Python's form, or of an object of lists; an empty one of the rest.

    The library `datasets` writes a sequence of objects as an object of lists.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = read_json(value)
        except ValueError:
            value = _literal(value)
    if isinstance(value, Mapping) and value and all(isinstance(each, list) for each in value.values()):
        value = [dict(zip(value, each, strict=False)) for each in zip(*value.values(), strict=False)]
    return value if isinstance(value, list | tuple) else ()


def _literal(text: str) -> Any:
    """Return the list that pandas has written to a CSV file, or None."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _message(turn: Message, name: str, foreign: bool) -> Message | None:
    """Return the message of a turn; None for a system's turn without words, which says nothing."""
    role, words = ("from", "value") if turn.get("role") is None and "from" in turn else ("role", "content")
    words = words if words in turn else next((key for key in ("content", "value") if key in turn), words)
    if role not in turn:
        raise BadRow(f"{name!r} has no 'role' or 'from', but {', '.join(map(repr, turn))}")
    said = read_text({f"{name}.{role}": turn.get(role)}, f"{name}.{role}")
    if role == "from" or foreign:
        said = _known(said, f"{name}.{role}", role == "from")
    if said == "function_call":
        calls = calls_of(turn.get(words), f"{name}.{words}")
        return {"role": "assistant", "content": "", "tool_calls": calls, **_silence(turn, name)}
    if said == "function":
        said = "tool"
    content = _content(turn.get(words), f"{name}.{words}", said)
    calls = _calls(turn, name)
    if said == "system" and not content.strip():
        return None
    if not (calls or said == "tool"):
        if words not in turn:
            raise BadRow(f"{name!r} has no 'content' or 'value', but {', '.join(map(repr, turn))}")
        content = read_text({f"{name}.{words}": content}, f"{name}.{words}")
    silent = _silence(turn, name) if said == "assistant" else {}
    return {"role": said, "content": content, **({"tool_calls": calls} if calls else {}), **_rest(turn, said), **silent}


def _known(said: str, name: str, needed: bool) -> str:
    role = ROLES.get(said.strip().lower())
    if role is None and needed:
        raise BadRow(f"{name!r} is {said!r}, which is no known role: {', '.join(ROLES)}")
    return role or said


def _content(value: Any, name: str, role: str) -> str:
    """Return the text of a content: of its parts, each on lines of its own; of what a tool returned, as JSON."""
    if isinstance(value, list | tuple) and (role != "tool" or _are_parts(value)):
        return "\n".join(_parts(value, name))
    if role == "tool" and value is not None and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"{name!r} is not text but {type(value).__name__}")
    return value or ""


def _are_parts(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(part, Mapping) and "type" in part for part in value)


def _parts(parts: Sequence[Any], name: str) -> Iterator[str]:
    for number, part in enumerate(parts):
        if isinstance(part, str):
            yield part
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise BadRow(f"{name}[{number}] is a part of type {kind!r}, and only text can be learned; remove the row")
        yield part["text"]


def _calls(turn: Message, name: str) -> list[Message]:
    calls, single = turn.get("tool_calls"), turn.get("function_call")
    if isinstance(calls, str) and calls.strip():
        return calls_of(calls, f"{name}.tool_calls")
    if calls:
        if not isinstance(calls, list | tuple):
            raise BadRow(f"'{name}.tool_calls' is not a list but {type(calls).__name__}")
        return [as_call(call, f"{name}.tool_calls[{number}]") for number, call in enumerate(calls)]
    return [as_call(single, f"{name}.function_call")] if single else []


def _silence(turn: Message, name: str) -> dict[str, bool]:
    """Return the mark of a turn of the assistant that says that it is not learned; nothing for another.

    Raises:
        BadRow: a weight is neither 0 nor 1.
    """
    for key in (key for key in _WEIGHTS if turn.get(key) is not None):
        if (weight := {"0": 0, "1": 1}.get(str(turn[key]), turn[key])) not in (0, 1):
            raise BadRow(f"'{name}.{key}' is {turn[key]!r}; a turn is learned, 1, or not, 0")
        if not weight:
            return {LEARNED: False}
    return {}


def _rest(turn: Message, role: str) -> dict[str, str]:
    """Return what templates read besides: the thoughts of an assistant, and which call a tool answers."""
    keys = {"assistant": ("reasoning_content", "thinking"), "tool": ("name", "tool_call_id")}.get(role, ())
    return {key: turn[key] for key in keys if isinstance(turn.get(key), str)}
