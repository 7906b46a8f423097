"""Where a generated text begins: as the rows of training did (client/finished/text.py, client/data/)."""

import json
import shutil

import pytest
import torch
from tokenizers import processors

from client.data.chats.chat import Chat
from client.data.chats.reply import reply_prompt
from client.data.chats.tokens import chat_tokens
from client.data.tokens import prompt_ids
from client.finished.run import learned_chats, load_run, load_test_rows
from client.finished.text import continue_text, generate
from common.errors import DataError
from simulations.tiny_base import tiny_base
from tests.client.conftest import BRIEF
from tests.helpers.client.toy_tokenizer import MARKED_CHAT, PLAIN_CHAT, word_tokenizer, words
from tests.helpers.end_to_end.command import call
from tests.helpers.simulations.runs import run_tiny, toy_rows, write_recipe

ASKED = "a cow by the old barn is seen at the"


@pytest.fixture(scope="module")
def ending_base(tmp_path_factory):
    """Make a decoder whose tokenizer puts an end of text and a separator after every text, as some do."""
    folder = tmp_path_factory.mktemp("base") / "llama"
    shutil.copytree(tiny_base("llama"), folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    frame = processors.TemplateProcessing(single="<bos> $A <eos> <sep>", special_tokens=FRAME)
    tokenizer["post_processor"] = json.loads(frame.__getstate__())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


FRAME = [("<bos>", 2), ("<eos>", 3), ("<sep>", 5)]


@pytest.fixture(scope="module")
def ending(ending_base, tmp_path_factory):
    settings = (f"base.path={ending_base}", "data.task=causal-lm", "clients.partition=iid", "train.steps=25")
    return run_tiny(tmp_path_factory.mktemp("ending"), *BRIEF, *settings)


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chats")
    rows = [
        {"messages": [{"role": "user", "content": row["q"]}, {"role": "assistant", "content": row["a"]}]}
        for row in toy_rows(prompt="q", completion="a")
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = write_recipe(folder, folder / "chats.jsonl", task="causal-lm", max_length=64)
    settings = ("base.path=tiny:llama", "clients.partition=iid", "train.steps=25")
    return run_tiny(folder, *BRIEF, *settings, recipe=recipe)


def test_found_A1_generate_begins_as_training_did_where_the_tokenizer_adds_an_end(ending):
    tokenizer = load_run(ending).base.tokenizer
    given = prompt_ids(tokenizer, ASKED)
    assert given[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in given
    assert tokenizer(ASKED)["input_ids"] == [*given, tokenizer.eos_token_id, tokenizer.sep_token_id]  # control
    row = load_test_rows(ending)[1].rows[0]
    prompt = tokenizer.decode(row.ids[: int((row.targets == -100).sum())], skip_special_tokens=True)
    assert row.ids[: len(prompt_ids(tokenizer, prompt))].tolist() == prompt_ids(tokenizer, prompt)
    it = load_run(ending)
    assert generate(ending, ASKED, 6) == continue_text(it, it.adapter, given, 6)


def test_found_A2_generate_replies_to_a_chat_and_raw_continues_the_bare_prompt(chats):
    it = load_run(chats)
    reply = reply_prompt(it.base.tokenizer, [{"role": "user", "content": ASKED}])
    assert it.base.tokenizer.decode(reply) == f"<|user|>\n{ASKED}<eos>\n<|assistant|>\n"
    expected = continue_text(it, it.adapter, reply, 6)
    bare = continue_text(it, it.adapter, prompt_ids(it.base.tokenizer, ASKED), 6)
    assert expected != bare  # control
    assert call("generate", chats, "--prompt", ASKED, "--tokens", 6).out == f"{expected}\n"
    assert call("generate", chats, "--prompt", ASKED, "--tokens", 6, "--raw").out == f"{bare}\n"


def test_a_run_without_test_rows_is_known_by_the_rows_of_its_clients(chats, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(chats, run)
    assert learned_chats(run)
    (run / "test.jsonl").write_text("")
    assert learned_chats(run)
    shutil.rmtree(run / "nodes")
    assert not learned_chats(run)


def test_a_run_of_prompts_is_continued_without_the_template(run_of):
    assert not learned_chats(run_of("llama"))


@pytest.mark.parametrize("template", [PLAIN_CHAT, MARKED_CHAT], ids=["by prefixes", "by marks"])
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "w7"}]], ids=["", "system"])
def test_a_reply_begins_where_it_was_learned(template, system, tmp_path):
    tokenizer = word_tokenizer(eos_token="<eos>")
    tokenizer.chat_template = template
    chat = [*system, {"role": "user", "content": "w1 w2"}]
    longer = Chat((*chat, {"role": "assistant", "content": "w3"}))
    ((ids, learned),) = chat_tokens([(1, longer)], tokenizer, tmp_path)
    assert reply_prompt(tokenizer, chat) == ids[: learned.index(True)]
    assert reply_prompt(tokenizer, chat)[-1] == words("assistant")[0]


def test_a_chat_needs_a_template_that_takes_it():
    tokenizer = word_tokenizer(eos_token="<eos>")
    with pytest.raises(DataError, match="has no chat template; give a bare prompt"):
        reply_prompt(tokenizer, [{"role": "user", "content": "w1"}])
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(DataError, match=r"rejected by the chat template \(no\)"):
        reply_prompt(tokenizer, [{"role": "user", "content": "w1"}])


def test_the_end_of_text_changes_what_is_written(ending):
    """The control of A1: a prompt that ends a text is continued by something else."""
    it = load_run(ending)
    given = prompt_ids(it.base.tokenizer, ASKED)
    with torch.no_grad():
        assert continue_text(it, it.adapter, given, 6) != continue_text(it, it.adapter, [*given, 3], 6)
