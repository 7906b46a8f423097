"""Calls of tools, and descriptions of tools, in the one form that chat templates read: arguments are objects."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from client.data.row_checks import BadRow

Call = Mapping[str, Any]


def read_json(text: str) -> Any:
    """Return the value of a text in JSON.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is too deep") from None


def as_call(value: Any, name: str) -> Call:
    """Return a call as `{"type": "function", "function": {"name": ..., "arguments": {...}}}`, with its id.

    Raises:
        BadRow: it names no function, or its arguments are no object.
    """
    call = value if isinstance(value, Mapping) else {}
    given = call.get("function")
    function = given if isinstance(given, Mapping) else call
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise BadRow(f"{name!r} is not a call of a function, which has a name and arguments")
    arguments = function.get("arguments", function.get("parameters"))
    told = {"name": function["name"], "arguments": _arguments(arguments, f"{name}.arguments")}
    known = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {**known, "type": "function", "function": told}


def calls_of(text: Any, name: str) -> list[Call]:
    """Return the calls that a text in JSON is: one, or a list of them.

    Raises:
        BadRow: it is not.
    """
    try:
        value = read_json(text) if isinstance(text, str) else text
    except ValueError:
        raise BadRow(f"{name!r} is not JSON, but a call of a function is") from None
    calls = value if isinstance(value, list | tuple) else [value]
    return [as_call(call, name if len(calls) == 1 else f"{name}[{number}]") for number, call in enumerate(calls)]


def with_text_arguments(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message whose calls have their arguments as JSON in a text, which some templates need."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls}


def arguments_of(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the arguments of all calls that are objects and not empty."""
    arguments = [call["function"]["arguments"] for each in messages for call in each.get("tool_calls", ())]
    return [each for each in arguments if isinstance(each, Mapping) and each]


def read_tools(value: Any, column: str) -> tuple[Mapping[str, Any], ...]:
    """Return the descriptions of tools in a column, as a list, as JSON, or as a list of JSON; none for an empty one.

    Raises:
        BadRow: they are something else.
    """
    tools = _parsed(value, column) or ()
    if isinstance(tools, Mapping):
        tools = (tools,)
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise BadRow(f"{column!r} is not a list of tools but {type(tools).__name__}")
    return tuple(_tool(_parsed(tool, column), f"{column}[{number}]") for number, tool in enumerate(tools))


def _parsed(value: Any, column: str) -> Any:
    if not isinstance(value, str) or not value.strip():
        return value if not isinstance(value, str) else None
    try:
        return read_json(value)
    except ValueError:
        raise BadRow(f"{column!r} is not JSON, but a list of tools is") from None


def _tool(value: Any, name: str) -> Mapping[str, Any]:
    described = value.get("function", value) if isinstance(value, Mapping) else {}
    if not isinstance(described, Mapping) or not isinstance(described.get("name"), str):
        raise BadRow(f"{name!r} is not the description of a tool, which has a name")
    return value if "function" in value else {"type": "function", "function": value}


def _arguments(value: Any, name: str) -> Mapping[str, Any]:
    try:
        value = read_json(value) if isinstance(value, str) and value.strip() else value or {}
    except ValueError:
        raise BadRow(f"{name!r} is not JSON") from None
    if not isinstance(value, Mapping):
        raise BadRow(f"{name!r} is not a JSON object but {type(value).__name__}")
    return value
