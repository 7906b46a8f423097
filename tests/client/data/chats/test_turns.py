"""Which tokens of a chat carry loss, under templates of real styles (client/data/chats/turns.py, tokens.py)."""

from pathlib import Path

import pytest

from client.data.chats.chat import Chat
from client.data.chats.tokens import chat_tokens
from client.data.row_checks import BadRows
from tests.helpers.client.chat_templates import (
    BLANK,
    CHATML,
    GEMMA,
    LLAMA_3,
    MISTRAL,
    MISTRAL_3,
    PARTS,
    PHI_3,
    QWEN_3,
    R1,
    chat_tokenizer,
)

FILE = Path("rows.jsonl")


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


ASKED, SAID = turn("user", "hello"), turn("assistant", "the weather")
AGAIN, ENDED = turn("user", "in Paris?"), turn("assistant", "is sunny")


def learned(template, *messages, **settings):
    """Return the text of a chat, and the texts of each run of tokens that carry loss."""
    tokenizer = chat_tokenizer(template, **settings)
    ((ids, marks),) = chat_tokens([(1, Chat(messages))], tokenizer, FILE)
    runs, before = [], False
    for each, mark in zip(ids, marks, strict=True):
        if mark:
            runs = [*runs[:-1], [*runs[-1], each]] if before else [*runs, [each]]
        before = mark
    return tokenizer.decode(ids), [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("trims", [False, True], ids=["whole", "trimmed"])
@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>\n"),
        (LLAMA_3, "<|eot_id|>"),
        (GEMMA, "<end_of_turn>\n"),
        (QWEN_3, "<|im_end|>\n"),
        (BLANK, "</s>\n"),
        (PARTS, "<|im_end|>\n"),
    ],
    ids=["chatml", "llama", "gemma", "qwen", "blank", "parts"],
)
def test_found_D9_each_reply_is_learned_with_its_end_and_nothing_else_is(template, end, trims):
    text, runs = learned(template, ASKED, SAID, AGAIN, ENDED, trims=trims)
    thought = "<think>\n\n</think>\n\n" if template is QWEN_3 else ""
    assert [run.strip() for run in runs] == [f"the weather{end}".strip(), f"{thought}is sunny{end}".strip()]
    assert "hello" in text and "Paris" in text  # control


@pytest.mark.parametrize("special", [True, False])
def test_found_D9_an_end_of_the_whole_chat_that_begins_as_the_next_turn_does_is_no_part_of_a_reply(special):
    """Phi-3 writes `</s>` in place of `<|user|>`; both begin with `<`."""
    tokenizer = chat_tokenizer(PHI_3)
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|end|>"]})
    ((ids, marks),) = chat_tokens([(1, Chat((ASKED, SAID, AGAIN, ENDED)))], tokenizer, FILE)
    said = tokenizer.decode([each for each, mark in zip(ids, marks, strict=True) if mark])
    assert said == "the weather<|end|>\nis sunny<|end|>\n</s>"


@pytest.mark.parametrize("turns", [(ASKED, SAID), (ASKED, SAID, AGAIN, ENDED)])
def test_found_D10_a_system_turn_that_a_template_leaves_out_is_refused_with_the_remedy(turns):
    """Mistral's third template writes it into the last message, if that is a user's."""
    system = turn("system", "brief")
    with pytest.raises(BadRows, match='has a system turn, which the chat template does not take; set system = "fold"'):
        learned(MISTRAL_3, system, *turns)
    tokenizer = chat_tokenizer(MISTRAL_3)
    ((ids, _),) = chat_tokens([(1, Chat((system, *turns)))], tokenizer, FILE, fold=True)
    assert "brief" in tokenizer.decode(ids)
    assert learned(MISTRAL_3, *turns)[1][0] == " the weather</s>"  # control


def test_found_D9_the_token_that_holds_the_blank_of_the_prompt_and_the_first_word_is_learned():
    text, runs = learned(BLANK, ASKED, SAID)
    assert text == "user: hello</s>\nassistant: the weather</s>\n"
    assert runs == [" the weather</s>\n"]
    tokenizer = chat_tokenizer(BLANK)
    assert (
        tokenizer(" the", add_special_tokens=False)["input_ids"]
        != tokenizer(" ")["input_ids"] + tokenizer("the")["input_ids"]
    )


def test_found_D9_thoughts_are_learned_where_the_template_keeps_them_and_nowhere_else():
    thinking = "<think>\nhm\n</think>\n\n"
    first, last = turn("assistant", f"{thinking}the weather"), turn("assistant", f"{thinking}is sunny")
    text, runs = learned(QWEN_3, ASKED, first, AGAIN, last)
    assert text.count("hm") == 1  # The template leaves it out of the first reply.
    assert runs == ["the weather<|im_end|>\n", "<think>\nhm\n</think>\n\nis sunny<|im_end|>\n"]
    by_key = turn("assistant", "is sunny", reasoning_content="hm")
    assert learned(QWEN_3, ASKED, SAID, AGAIN, by_key) == (text, runs)


def test_found_D9_equal_replies_and_those_that_quote_the_chat_are_told_apart():
    quoting = turn("assistant", "hello<|im_end|>\n<|im_start|>assistant\nthe weather")
    runs = learned(QWEN_3, ASKED, SAID, ASKED, quoting, ASKED, SAID)[1]
    thought = "<think>\n\n</think>\n\n"
    assert runs == [
        "the weather<|im_end|>\n",
        f"{quoting['content']}<|im_end|>\n",
        f"{thought}the weather<|im_end|>\n",
    ]


def test_found_D9_calls_of_tools_are_learned_and_their_results_are_not():
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    chat = [ASKED, turn("assistant", "", tool_calls=[call, call]), turn("tool", "sunny"), ENDED, AGAIN, SAID]
    called = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    runs = learned(QWEN_3, *chat)[1]
    assert runs == [
        f"{called}\n{called}<|im_end|>\n",
        "is sunny<|im_end|>\n",
        "<think>\n\n</think>\n\nthe weather<|im_end|>\n",
    ]
    said = [*chat[:1], turn("assistant", "hm", tool_calls=[call]), *chat[2:]]
    assert learned(QWEN_3, *said)[1][0] == f"hm\n{called}<|im_end|>\n"


def test_found_D9_a_prompt_that_begins_a_thought_which_the_template_leaves_out():
    thinking = turn("assistant", "<think>hm</think>the weather")
    assert learned(R1, ASKED, thinking, AGAIN, ENDED)[1] == ["the weather</s>", "is sunny</s>"]


def test_a_template_that_ends_only_the_last_turn_is_read():
    once = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{{ eos_token }}"
    once += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    with pytest.raises(BadRows, match="cannot be located"):
        learned(once, ASKED, SAID, AGAIN, ENDED)
    right = once.replace(
        "{{ eos_token }}{% if add", "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}{% if add"
    )
    assert learned(right, ASKED, SAID, AGAIN, ENDED)[1] == [" the weather\n", " is sunny\n</s>"]


def test_a_template_without_a_prompt_for_replies_gives_what_it_adds():
    assert learned(MISTRAL, ASKED, SAID, AGAIN, ENDED)[1] == [" the weather</s>", " is sunny</s>"]


def test_found_D9_many_chats_together_are_what_each_is_alone():
    tokenizer = chat_tokenizer(QWEN_3)
    chats = [Chat((ASKED, SAID)), Chat((ASKED, SAID, AGAIN, ENDED)), Chat((turn("system", "hm"), AGAIN, ENDED))]
    together = chat_tokens([*enumerate(chats, 1)], tokenizer, FILE)
    assert together == tuple(chat_tokens([(1, chat)], tokenizer, FILE)[0] for chat in chats)
    assert len({tuple(ids) for ids, _ in together}) == 3
