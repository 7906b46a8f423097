"""Messages that say that they are not learned (messages.py, chat.py, tokens.py)."""

from pathlib import Path

import pytest

from client.data.chats.chat import read_chat
from client.data.chats.system_turns import fold_system
from client.data.chats.tokens import chat_tokens
from client.data.row_checks import BadRow, BadRows
from tests.helpers.client.chat_templates import (
    BLANK,
    CHATML,
    GEMMA,
    LLAMA_3,
    MISTRAL,
    PARTS,
    QWEN_3,
    R1,
    chat_tokenizer,
)

MARKED = """\
{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}\
{% endif %}{% endfor %}{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'assistant' %}{% generation %}\
{{ m.content if loop.index0 > ns.last else m.content.split('</think>')[-1] }}{{ eos_token }}{% endgeneration %}\
{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""
TEMPLATES = {
    "chatml": CHATML,
    "llama": LLAMA_3,
    "gemma": GEMMA,
    "qwen": QWEN_3,
    "mistral": MISTRAL,
    "blank": BLANK,
    "r1": R1,
    "parts": PARTS,
    "marked": MARKED,
}


def chat(*answers, key="weight"):
    """Return a chat with these answers, each with its weight, or None."""
    return [
        turn
        for number, (answer, weight) in enumerate(answers)
        for turn in (
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": answer, **({} if weight is None else {key: weight})},
        )
    ]


def learned(messages, template=CHATML):
    """Return what is learned of a chat."""
    tokenizer = chat_tokenizer(template)
    ((ids, marks),) = chat_tokens([(1, read_chat({"m": messages}, "m"))], tokenizer, Path("rows.jsonl"))
    return tokenizer.decode([each for each, mark in zip(ids, marks, strict=True) if mark])


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_found_D6_a_turn_of_weight_0_is_read_and_not_learned(template):
    one = learned(chat(("<think>no</think>there", 0), ("sunny", 1), ("there", 0)), template)
    assert "sunny" in one and "there" not in one
    both = learned(chat(("there", None), ("sunny", 1), ("hello", 0)), template)
    assert "there" in both and "sunny" in both and "hello" not in both


@pytest.mark.parametrize("key", ["weight", "train", "training", "loss"])
@pytest.mark.parametrize("weight", [0, 0.0, False, "0"])
def test_found_D6_however_it_is_written(key, weight):
    assert learned(chat(("there", weight), ("sunny", None), key=key)) == "sunny<|im_end|>\n"
    assert "there" in learned(chat(("there", None), ("sunny", None), key=key))  # control


def test_found_D6_a_template_does_not_see_it():
    shown = CHATML.replace("message['content']", "(message | tojson)")
    assert "learned" not in learned(chat(("there", 0), ("sunny", 1)), shown)


def test_found_D6_turns_of_sharegpt_and_calls_of_tools_have_it_too():
    turns = [
        {"from": "human", "value": "hello"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {}}', "weight": 0},
        {"from": "observation", "value": "rain"},
        {"from": "gpt", "value": "sunny", "weight": 1},
    ]
    assert "weather" not in learned(turns, QWEN_3)
    assert "weather" in learned([{**turn, "weight": 1} for turn in turns], QWEN_3)  # control


def test_found_D6_a_system_turn_that_is_folded_moves_no_weight():
    system = [{"role": "system", "content": "hm"}]
    read = read_chat({"m": [*system, *chat(("there", 0), ("sunny", 1))]}, "m")
    assert [read.messages[n]["content"] for n in read.replies] == ["sunny"]
    folded = fold_system(read)
    assert [folded.messages[n]["content"] for n in folded.replies] == ["sunny"]


def test_found_D6_another_weight_and_a_chat_without_any_are_refused():
    with pytest.raises(BadRow, match=r"'m\[1\].weight' is 0.5; a turn is learned, 1, or not, 0"):
        learned(chat(("there", 0.5)))
    with pytest.raises(BadRow, match="no turn of the assistant after another's turn whose weight is not 0"):
        learned(chat(("there", 0)))


def test_found_D6_a_marked_turn_that_cannot_be_located_is_refused():
    rewritten = MARKED.replace("{{ m.role + ': ' }}", "{{ messages | length }}{{ m.role + ': ' }}")
    assert "sunny" in learned(chat(("there", None), ("sunny", None)), rewritten)  # control
    with pytest.raises(BadRows, match=r"has a message \(1\) that is not to be learned and cannot be located"):
        learned(chat(("there", 0), ("sunny", None)), rewritten)
