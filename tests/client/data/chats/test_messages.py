"""Chats as people have them, and as a template gets them (messages.py, tool_calls.py, template.py)."""

import json
from pathlib import Path

import pytest

from client.data.chats.chat import read_chat, read_two
from client.data.chats.system_turns import fold_system
from client.data.chats.template import fit
from client.data.row_checks import BadRow
from tests.helpers.client.chat_templates import (
    CHATML,
    GEMMA,
    LLAMA_3,
    PARTS,
    PRINTED_ARGUMENTS,
    QWEN_3,
    TEXT_ARGUMENTS,
    chat_tokenizer,
)

FILE = Path("rows.jsonl")
PLAIN = [
    {"role": "system", "content": "hm"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "there"},
]
SHAREGPT = [{"from": "system", "value": "hm"}, {"from": "human", "value": "hello"}, {"from": "gpt", "value": "there"}]
ARGUMENTS = {"city": "Paris", "é": [1, None]}
FUNCTION = {"name": "weather", "arguments": json.dumps(ARGUMENTS)}
CALL = {"id": "c1", "type": "function", "function": FUNCTION}
CALLED = [
    {"role": "user", "content": "the weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    {"role": "assistant", "content": "is sunny", "tool_calls": None},
]
TOOL = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": {}}}


def read(chat, **more):
    return read_chat({"messages": chat, **more}, "messages", "system", ("tools",))


def messages(chat, **more):
    return [*read(chat, **more).messages]


def text(chat, template, fold=False, **more):
    return fit(chat_tokenizer(template), read(chat, **more), fold)[1]


@pytest.mark.parametrize(
    "chat",
    [
        SHAREGPT,
        [
            {"from": "System", "value": "hm"},
            {"from": "user", "value": "hello"},
            {"from": "assistant", "value": "there"},
        ],
        [
            {"role": "system", "content": "hm"},
            {"role": "human", "content": "hello"},
            {"role": "gpt", "content": "there"},
        ],
        [{**each, "weight": 1, "name": None} for each in PLAIN],
        [{"role": each["role"], "content": [{"type": "text", "text": each["content"]}]} for each in PLAIN],
        [{"role": None, "content": None, **each} for each in SHAREGPT],
        json.dumps(PLAIN),
        json.dumps(SHAREGPT, indent=1),
        repr(PLAIN),
        tuple(PLAIN),
        {key: [each[key] for each in PLAIN] for key in ("role", "content")},
    ],
    ids=[
        "sharegpt",
        "names",
        "keys",
        "more keys",
        "parts",
        "nulls",
        "json",
        "sharegpt in json",
        "pandas",
        "tuple",
        "columns",
    ],
)
def test_found_D6_each_form_of_a_chat_is_the_same_chat(chat):
    assert messages(chat) == PLAIN


def test_found_D6_a_system_column_begins_a_chat_that_has_none():
    assert messages(PLAIN[1:], system="hm") == PLAIN
    assert messages(PLAIN, system="other") == PLAIN
    assert messages(PLAIN[1:], system=" ") == messages([{"role": "system", "content": ""}, *PLAIN[1:]]) == PLAIN[1:]


def test_found_D6_the_parts_of_a_content_are_on_lines_of_their_own():
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "there"}]
    assert messages([{"role": "user", "content": parts}, PLAIN[2]])[0]["content"] == "hello\nthere"


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        (
            [{"from": "narrator", "value": "x"}, *SHAREGPT],
            r"'messages\[0\].from' is 'narrator', which is no known role",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}, PLAIN[2]],
            r"messages\[0\].content\[0\] is a part of type 'image_url', and only text",
        ),
        ([{"role": "user", "content": {"a": 1}}, PLAIN[2]], r"'messages\[0\].content' is not text but dict"),
        ("[not json", "'messages' is not a list"),
        ([{"from": "human", "value": "x"}, {"from": "function_call", "value": "hm"}], "is not JSON, but a call"),
        ([*PLAIN, {"role": "assistant", "tool_calls": [{"id": "c"}]}], r"tool_calls\[0\]' is not a call of a function"),
        (
            [*PLAIN, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            r"tool_calls\[0\].arguments' is not JSON",
        ),
        (
            [*PLAIN, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}],
            "is not a JSON object but list",
        ),
        ([*PLAIN, {"role": "assistant", "tool_calls": 3}], "tool_calls' is not a list but int"),
        ([{"human": "x", "assistant": "y"}], r"'messages\[0\]' has no 'role' or 'from', but 'human', 'assistant'"),
        ([{"role": "user", "text": "x"}], r"'messages\[0\]' has no 'content' or 'value', but 'role', 'text'"),
        ([*PLAIN, {"role": "assistant", "content": None, "tool_calls": []}], r"'messages\[3\].content' is empty"),
    ],
)
def test_found_D6_what_is_no_chat_is_refused_with_its_place(chat, reason):
    with pytest.raises(BadRow, match=reason):
        read(chat)


@pytest.mark.parametrize(
    "chat",
    [
        CALLED,
        [{key: value for key, value in each.items() if value is not None} for each in CALLED],
        [CALLED[0], {"role": "assistant", "tool_calls": json.dumps([CALL])}, *CALLED[2:]],
        [
            CALLED[0],
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "name": "weather", "arguments": ARGUMENTS}],
            },
            *CALLED[2:],
        ],
        [CALLED[0], {"role": "assistant", "content": None, "function_call": FUNCTION}, *CALLED[2:]],
        [
            {"from": "human", "value": "the weather?"},
            {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": ARGUMENTS})},
            {"from": "observation", "value": "sunny"},
            {"from": "gpt", "value": "is sunny"},
        ],
    ],
    ids=["openai", "left out", "json", "flat", "function call", "sharegpt"],
)
def test_found_D6_calls_of_tools_are_rendered_with_arguments_as_objects(chat):
    said = text(chat, QWEN_3)
    assert f'<tool_call>\n{{"name": "weather", "arguments": {json.dumps(ARGUMENTS, ensure_ascii=False)}}}' in said
    assert "<tool_response>\nsunny\n</tool_response>" in said and "None" not in said


@pytest.mark.parametrize("template", [TEXT_ARGUMENTS, PRINTED_ARGUMENTS], ids=["joined", "printed"])
def test_found_D6_a_template_that_writes_arguments_as_text_gets_them_so(template):
    assert f"weather{json.dumps(ARGUMENTS, ensure_ascii=False)}<|im_end|>" in text(CALLED, template)


def test_found_D6_a_template_that_reads_contents_in_parts_gets_them_so():
    assert text(PLAIN, PARTS) == text(PLAIN, CHATML)
    assert chat_tokenizer(PARTS).apply_chat_template(PLAIN, tokenize=False).count("hello") == 0  # control


def test_found_D6_a_template_that_leaves_out_what_is_said_is_refused():
    with pytest.raises(BadRow, match=r"ends with a message that the chat template leaves out \('there'\)"):
        text(PLAIN, CHATML.replace("message['content']", "''"))


def test_found_D6_a_call_that_the_template_leaves_out_is_refused():
    with pytest.raises(
        BadRow, match="a call of the tool 'weather', which the chat template leaves out; set chat_template"
    ):
        text(CALLED, CHATML)


@pytest.mark.parametrize(
    "tools", [[TOOL], TOOL, json.dumps([TOOL]), [json.dumps(TOOL)], [TOOL["function"]], json.dumps([TOOL["function"]])]
)
def test_found_D6_tools_reach_the_template(tools):
    assert json.dumps(TOOL) in text(PLAIN, QWEN_3, tools=tools)
    assert "# Tools" not in text(PLAIN, QWEN_3, tools=None) + text(PLAIN, QWEN_3, tools="")  # control


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("{", "'tools' is not JSON"),
        (3, "'tools' is not a list of tools but int"),
        ([{"a": 1}], r"'tools\[0\]' is not the"),
    ],
)
def test_found_D6_what_is_no_tool_is_refused(tools, reason):
    with pytest.raises(BadRow, match=reason):
        read(PLAIN, tools=tools)


def test_found_D6_a_developer_is_a_system_to_templates_that_do_not_know_one():
    chat = [{"role": "developer", "content": "hm"}, *PLAIN[1:]]
    assert text(chat, LLAMA_3) == text(PLAIN, LLAMA_3)
    knows = LLAMA_3 + "{# developer #}"
    assert "<|start_header_id|>developer" in text(chat, knows)


def test_found_D6_half_a_surrogate_pair_anywhere_is_refused():
    chat = [*CALLED[:2], {"role": "tool", "content": "\ud800"}, CALLED[3]]
    with pytest.raises(BadRow, match="half a surrogate pair"):
        text(chat, QWEN_3)


def test_found_D10_a_template_without_a_system_role_is_refused_with_the_remedy():
    with pytest.raises(BadRow, match=r'a system turn, which the chat template does not take; set system = "fold"'):
        text(PLAIN, GEMMA)
    with pytest.raises(BadRow, match=r"rejected by the chat template \(Conversation roles must alternate"):
        text([*PLAIN[1:], PLAIN[2]], GEMMA)  # control: a fault that folding does not mend


def test_found_D10_fold_puts_a_system_turn_into_the_users():
    assert text(PLAIN, GEMMA, fold=True) == (
        "<s><start_of_turn>user\nhm\n\nhello<end_of_turn>\n<start_of_turn>model\nthere<end_of_turn>\n"
    )
    assert text(PLAIN[1:], GEMMA, fold=True) == text(PLAIN[1:], GEMMA)
    assert "system" not in text(PLAIN, CHATML, fold=True)


def test_found_D10_a_system_turn_without_a_user_after_it_cannot_be_folded():
    with pytest.raises(BadRow, match="no user's turn after it"):
        text([*PLAIN[1:], {"role": "system", "content": "hm"}], GEMMA, fold=True)


def test_a_prompt_of_messages_stays_unlearned_also_when_folded():
    both = read_two({"p": [*PLAIN, PLAIN[1]], "c": [PLAIN[2]]}, "p", "c")
    assert both.replies == [4]
    assert fold_system(both).replies == [3]
