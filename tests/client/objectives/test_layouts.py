"""Rows of layouts that are known by their columns (client/data/layouts.py, client/objectives/layout_tokens.py)."""

import json
from pathlib import Path

import pytest

from client.data.layouts import KNOWN, find_layout
from client.data.rows import Row
from client.data.tokens import IGNORE
from client.objectives.examples import encode_rows
from common.errors import DataError
from tests.helpers.client.chat_templates import CHATML, QWEN_3, chat_tokenizer
from tests.helpers.client.toy_tokenizer import node_data

FILE = Path("rows.jsonl")
PLAIN = chat_tokenizer()
CHATTING = chat_tokenizer(CHATML)
ALPACA = {"instruction": "the weather?", "input": "in Paris", "output": "is sunny"}
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\nthe weather?\n\n### Input:\nin Paris\n\n"
    "### Response:\n"
)
WITHOUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nthe weather?\n\n### Response:\n"
)


def read(*rows, tokenizer=PLAIN, **settings):
    """Return the examples of rows."""
    data = node_data(max_length=500, **settings)
    return encode_rows([Row(n, row) for n, row in enumerate(rows, 1)], data, tokenizer, FILE)


def parts(*rows, tokenizer=PLAIN, **settings):
    """Return what is given and what is learned in the only row."""
    (example,) = read(*rows, tokenizer=tokenizer, **settings).rows
    marks = list(example.targets != IGNORE)
    return tuple(
        tokenizer.decode([n for n, m in zip(example.ids, marks, strict=True) if m == mark]) for mark in (False, True)
    )


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (ALPACA, WITH_INPUT),
        ({**ALPACA, "input": ""}, WITHOUT),
        ({**ALPACA, "input": None}, WITHOUT),
        ({**ALPACA, "input": " \n"}, WITHOUT),
        ({"instruction": "the weather?", "output": "is sunny"}, WITHOUT),
        ({"instruction": "the weather?", "context": "in Paris", "response": "is sunny", "category": "qa"}, WITH_INPUT),
        ({"question": "the weather?", "answer": "is sunny"}, WITHOUT),
        ({"prompt": "the weather?", "response": "is sunny"}, WITHOUT),
        ({"query": "the weather?", "response": "is sunny"}, WITHOUT),
    ],
)
def test_found_D5_an_instruction_is_known_by_its_columns(row, prompt):
    assert parts(row) == (prompt, "is sunny</s>")


def test_found_D5_with_a_chat_template_an_instruction_goes_through_it():
    given, learned = parts(ALPACA, tokenizer=CHATTING)
    assert given == "<|im_start|>user\nthe weather?\n\nin Paris<|im_end|>\n<|im_start|>assistant\n"
    assert learned == "is sunny<|im_end|>\n"
    assert parts({**ALPACA, "system": "hm"}, tokenizer=CHATTING)[0].startswith("<|im_start|>system\nhm<|im_end|>\n<|im")
    chat = [{"role": "user", "content": "the weather?\n\nin Paris"}, {"role": "assistant", "content": "is sunny"}]
    assert parts({"messages": chat}, tokenizer=CHATTING) == (given, learned)


def test_found_D5_a_systems_words_come_before_the_instruction():
    row = {"system_prompt": "hm", "question": "the weather?", "response": "is sunny"}
    assert parts(row)[0] == "hm\n\n### Instruction:\nthe weather?\n\n### Response:\n"
    assert parts({**row, "system_prompt": ""})[0] == WITHOUT


@pytest.mark.parametrize(
    ("settings", "unread"),
    [
        ({"prompt": "instruction", "completion": "output"}, "input"),
        ({"prompt": "input", "completion": "output"}, "instruction"),
    ],
)
def test_found_D5_a_column_that_a_known_layout_asks_with_and_that_is_not_read_is_said(settings, unread):
    found = read(ALPACA, **settings).found
    (warning,) = found.warnings
    assert f"rows.jsonl: the column '{unread}' is not read" in warning and "leave out the keys" in warning
    assert parts(ALPACA, **settings)[0] == ALPACA[settings["prompt"]]  # as its owner has set it


def test_found_D5_nothing_is_said_where_all_is_read():
    assert read(ALPACA).found.warnings == ()
    assert read(ALPACA, prompt="instruction").found.warnings == ()  # no completion: known by its columns
    assert parts(ALPACA, prompt="instruction") == parts(ALPACA)
    assert read({"prompt": "a", "completion": "b", "id": 3}).found.warnings == ()
    assert read({"text": "hello there", "input": "a"}).found.warnings == ()


def test_found_D5_a_text_that_has_the_question_too_is_said_and_can_be_put_aside():
    row = {"text": "hello there", **ALPACA}
    assert "the column 'text' is learned whole, also what asks in it" in read(row).found.warnings[0]
    assert read(row, text="").found.warnings == ()
    assert parts(row, text="") == parts(ALPACA)


def test_found_D5_capital_letters_make_no_other_layout():
    row = {name.capitalize(): value for name, value in ALPACA.items()}
    assert parts(row) == parts(ALPACA)
    found = read(row, prompt="Instruction", completion="Output").found
    assert "the column 'Input' is not read" in found.warnings[0]


def test_found_D5_preference_rows_say_it_too():
    row = {"prompt": "a", "instruction": "q", "input": "i", "chosen": "b", "rejected": "c"}
    found = read(row, task="preference", prompt="instruction").found
    assert "'input' is not read" in found.warnings[0]
    assert read(row, task="preference").found.warnings == ()


HISTORY = [["hello?", "there"], ["and you?", "is sunny"]]


@pytest.mark.parametrize("history", [HISTORY, json.dumps(HISTORY), repr(HISTORY), tuple(map(tuple, HISTORY))])
def test_found_D5_a_history_is_earlier_turns_that_are_learned_too(history):
    row = {**ALPACA, "history": history}
    said = [("hello?", "there"), ("and you?", "is sunny"), ("the weather?\n\nin Paris", "is sunny")]
    roles = ("user", "assistant")
    chat = [{"role": role, "content": each} for turn in said for role, each in zip(roles, turn, strict=True)]
    assert parts(row, tokenizer=CHATTING) == parts({"messages": chat}, tokenizer=CHATTING)
    assert read(row, tokenizer=CHATTING).found.warnings == ()


def test_found_D5_a_history_without_a_chat_template_is_read_and_not_learned_which_is_said():
    row = {**ALPACA, "history": HISTORY}
    earlier = (
        "### Instruction:\nhello?\n\n### Response:\nthere\n\n### Instruction:\nand you?\n\n### Response:\nis sunny\n\n"
    )
    given, learned = parts(row)
    assert (given, learned) == (WITH_INPUT.replace("### Instruction", earlier + "### Instruction"), "is sunny</s>")
    assert "answers in the column 'history' are read but not learned" in read(row).found.warnings[0]


@pytest.mark.parametrize("history", [[], None, "", "[]", " "])
def test_found_D5_an_empty_history_is_none(history):
    assert parts({**ALPACA, "history": history}, tokenizer=CHATTING) == parts(ALPACA, tokenizer=CHATTING)


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ("hello", "'history' is not a list of pairs of a question and its answer but str"),
        ([["hello"]], r"'history\[0\]' is not a pair"),
        ([["hello", 1]], r"'history\[0\]\[1\]' is not text but int"),
    ],
)
def test_found_D5_what_is_no_history_is_a_bad_row(history, reason):
    with pytest.raises(DataError, match=reason):
        read({**ALPACA, "history": history}, tokenizer=CHATTING)


def test_found_D6_functions_are_tools():
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}]
    described = {"name": "weather", "description": "of a city", "parameters": {}}
    row = {"messages": chat, "functions": [described]}
    tokenizer = chat_tokenizer(QWEN_3)
    assert parts(row, tokenizer=tokenizer) == parts({"messages": chat, "tools": [described]}, tokenizer=tokenizer)
    assert "weather" in parts(row, tokenizer=tokenizer)[0]


def test_found_D5_rows_that_were_read_before_are_read_as_they_were():
    row = {"prompt": "the weather?", "completion": " is sunny", "text": "hello there", **ALPACA}
    assert parts(row) == ("the weather?", " is sunny</s>")
    assert parts({"text": "hello there", **ALPACA}) == ("", "hello there</s>")
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}]
    assert parts({"messages": chat, **row}, tokenizer=CHATTING)[1] == "there<|im_end|>\n"


def test_found_D5_an_unknown_layout_is_refused_with_those_that_are_known():
    with pytest.raises(DataError) as error:
        read({"body": "a", "reply": "b"})
    for part in ("'body', 'reply'", "messages = 'messages'", "'instruction' and 'output'", "'conversations'"):
        assert part in str(error.value)


@pytest.mark.parametrize("column", ["instruction", "output", "input"])
def test_found_D5_a_column_of_another_kind_is_a_bad_row(column):
    for tokenizer in (PLAIN, CHATTING):
        with pytest.raises(DataError, match=f"line 2: '{column}' is not text but list"):
            read(ALPACA, {**ALPACA, column: ["a"]}, tokenizer=tokenizer)


def test_found_D6_sharegpt_is_known_by_its_column_with_tools_and_a_system():
    turns = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "there"}]
    tools = json.dumps([{"name": "weather"}])
    given, learned = parts({"conversations": turns, "system": "hm", "tools": tools}, tokenizer=chat_tokenizer(QWEN_3))
    assert "<|im_start|>system\nhm<|im_end|>" in given and '"name": "weather"' in given
    assert learned == "<think>\n\n</think>\n\nthere<|im_end|>\n"


def test_found_D6_tools_that_the_template_does_not_write_are_said():
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}]
    row = {"messages": chat, "tools": [{"name": "weather"}]}
    assert (
        "'tools' is not learned from, as the chat template does not" in read(row, tokenizer=CHATTING).found.warnings[0]
    )
    assert read(row, tokenizer=chat_tokenizer(QWEN_3)).found.warnings == ()
    assert "'system' is not read" in read({"messages": chat, "system": "hm"}, tokenizer=CHATTING).found.warnings[0]


def test_found_D6_prompts_and_completions_of_messages_are_a_chat_whose_end_is_learned():
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}]
    row = {"prompt": [*turns, turns[0]], "completion": [{"role": "assistant", "content": "is sunny"}]}
    given, learned = parts(row, tokenizer=CHATTING)
    assert learned == "is sunny<|im_end|>\n" and "there" in given
    marked = CHATML.replace(
        "+ message['content'] + '<|im_end|>\\n' }}", "}}{% generation %}{{ message['content'] }}{% endgeneration %}"
    )
    assert parts(row, tokenizer=chat_tokenizer(marked))[1] == "is sunny"


def test_found_D6_bad_chats_are_left_out_where_that_is_asked():
    turns = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "there"}]
    rows = [{"conversations": turns}, {"conversations": [{"from": "narrator", "value": "x"}]}, {"conversations": turns}]
    examples = read(*rows, tokenizer=CHATTING, skip_bad_rows=True)
    assert len(examples) == 2
    assert "'narrator'" in examples.found.skipped[0].reason


def test_each_known_layout_is_found_by_its_own_columns():
    data = node_data()
    for layout in KNOWN:
        assert find_layout(data, layout.columns) == layout
