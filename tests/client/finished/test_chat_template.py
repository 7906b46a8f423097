"""A run under a chat template of its own, and what is left of it afterwards (client/node.py, client/finished/)."""

import json
import shutil
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from client.check import describe_base
from client.data.chats.instructions import Instruction
from client.data.chats.reply import reply_prompt
from client.data.tokens import prompt_ids
from client.finished.run import load_run, load_test_rows
from client.finished.text import continue_text, generate
from client.node import describe_model, load_node_base
from client.serving.adapter_folder import read_adapter
from client.settings import read_node
from common.errors import ModelError
from common.huggingface.base_file import BaseFile
from common.huggingface.fingerprint_parts import tell_differences
from common.settings.reader import read_toml
from simulations.tiny_base import tiny_base
from tests.client.conftest import BRIEF
from tests.helpers.client.nodes import write_node
from tests.helpers.client.saved import node_folder
from tests.helpers.end_to_end.command import call
from tests.helpers.simulations.runs import run_tiny, toy_rows, write_recipe

OWN = """\
{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
{{ '# ' + m.role + ': ' + m.content + eos_token }}{% endfor %}\
{% if add_generation_prompt %}{{ '# assistant: ' }}{% endif %}"""
ASKED = "a cow by the old barn"


def rows():
    return [
        {
            "conversations": [
                {"from": "system", "value": "say where"},
                {"from": "human", "value": row["q"]},
                {"from": "gpt", "value": row["a"].strip()},
            ]
        }
        for row in toy_rows(prompt="q", completion="a")
    ]


def recipe_of(folder, content, **data):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return write_recipe(folder, folder / "rows.jsonl", task="causal-lm", max_length=96, **data)


LLAMA = (*BRIEF, "base.path=tiny:llama", "clients.partition=iid")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run under a template, whose file is gone afterwards."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.jinja").write_text(OWN)
    recipe = recipe_of(folder, rows(), chat_template="own.jinja", system="fold")
    made = run_tiny(folder, *LLAMA, recipe=recipe)
    (folder / "own.jinja").unlink()
    return made


def test_found_D9_a_run_is_read_by_its_own_template_and_keeps_it(run):
    row = load_test_rows(run)[1].rows[0]
    text = load_run(run).base.tokenizer.decode(row.ids)
    assert text.startswith("# user: say where\n\n") and "# assistant: " in text
    assert read_toml(run / "config.toml")["data"]["chat_template"] == OWN
    plain = replace(load_run(run).node.data, chat_template=None)
    assert load_node_base(replace(load_run(run).node, data=plain)).tokenizer.chat_template != OWN  # control


def test_found_D9_generate_replies_through_it(run):
    it = load_run(run)
    ids = reply_prompt(it.base.tokenizer, [{"role": "user", "content": ASKED}])
    assert it.base.tokenizer.decode(ids) == f"# user: {ASKED}<eos># assistant: "
    assert generate(run, ASKED, 6) == continue_text(it, it.adapter, ids, 6)


def test_found_D9_merged_and_exported_folders_have_it(run, tmp_path):
    assert call("merge", run, tmp_path / "merged").status == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == OWN
    assert call("export", run, tmp_path / "peft").status == 0
    assert (tmp_path / "peft" / "chat_template.jinja").read_text() == OWN


def test_found_D9_a_nodes_folder_has_it(run, tmp_path):
    folder = node_folder(tmp_path, run)
    assert read_node(folder / "node.toml").data.chat_template == OWN
    assert load_run(folder).base.tokenizer.chat_template == OWN
    other = tmp_path / "other"
    other.mkdir()
    read_adapter(folder, load_run(run).node, load_run(run).base)  # control
    plain = replace(load_run(run).node, data=replace(load_run(run).node.data, chat_template=None))
    with pytest.raises(ModelError, match="another chat_template or system; serve it by itself"):
        read_adapter(folder, plain, load_run(run).base)


def described(folder, **settings):
    node = read_node(write_node(folder, kind="llama", task="causal-lm", **settings))
    return node, describe_model(node, "query-value")


def test_found_D9_nodes_need_one_template_wherever_its_file_is(tmp_path):
    (tmp_path / "a.jinja").write_text(OWN)
    (tmp_path / "b.jinja").write_text(OWN + "\n")
    _, plain = described(tmp_path / "plain")
    node, one = described(tmp_path / "one", chat_template="../a.jinja")
    _, same = described(tmp_path / "same", chat_template=OWN)
    _, other = described(tmp_path / "other", chat_template="../b.jinja")
    _, folded = described(tmp_path / "folded", chat_template="../a.jinja", system="fold")
    assert one == same
    assert len({each.fingerprint for each in (plain, one, other, folded)}) == 4
    assert tell_differences(one.parts, other.parts).startswith("chat_template: the run has ")
    assert tell_differences(plain.parts, one.parts).startswith("chat_template: the run has none, the node ")
    assert tell_differences(folded.parts, one.parts) == 'system: the run has "fold", the node none'
    assert OWN[:20] not in str(one.parts)
    file = describe_base(node, "query-value")
    assert isinstance(file, BaseFile) and file.description.parts == one.parts
    file.check_folder(node.base.path)


def test_found_D10_a_system_turn_is_refused_by_default(tmp_path):
    (tmp_path / "own.jinja").write_text(OWN)
    recipe = recipe_of(tmp_path, rows()[:40], chat_template="own.jinja")
    ended = call("simulate", recipe, "--out", tmp_path / "runs", "--set", "base.path=tiny:llama")
    assert ended.status == 2 and "40 of 40 rows cannot be used" in ended.err
    assert 'set system = "fold" (in a recipe: [data] system)' in ended.err


def test_found_D5_generate_asks_as_instructions_did(tmp_path):
    content = [{"instruction": "say where", **row} for row in toy_rows(prompt="input", completion="output")]
    run = run_tiny(tmp_path, *LLAMA, recipe=recipe_of(tmp_path, content))
    it = load_run(run)
    ids = reply_prompt(it.base.tokenizer, [{"role": "user", "content": ASKED}])
    assert generate(run, ASKED, 6) == continue_text(it, it.adapter, ids, 6)
    text = it.base.tokenizer.decode(load_test_rows(run)[1].rows[0].ids)
    assert text.startswith("<|user|>\nsay where\n\n")  # its input was dealt out too


def test_found_D5_generate_asks_in_alpacas_text_where_there_is_no_template(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_base("llama"), base)
    (base / "chat_template.jinja").unlink()
    content = [{"instruction": "say where", **row} for row in toy_rows(prompt="input", completion="output")]
    recipe = recipe_of(tmp_path, content)
    run = run_tiny(tmp_path, *LLAMA, f"base.path={base}", "data.max_length=200", recipe=recipe)
    it = load_run(run)
    ids = prompt_ids(it.base.tokenizer, Instruction(ASKED).text)
    row = it.base.tokenizer.decode(load_test_rows(run)[1].rows[0].ids, skip_special_tokens=True)
    assert row.startswith("Below is an instruction") and "### Instruction:\nsay where\n\n### Input:\n" in row
    assert generate(run, ASKED, 6) == continue_text(it, it.adapter, ids, 6)


def test_found_D5_a_column_that_is_not_read_is_said_before_the_run(tmp_path):
    content = [{"instruction": "say where", **row} for row in toy_rows(prompt="input", completion="output")]
    recipe = recipe_of(tmp_path, content, prompt="instruction", completion="output")
    settings = [word for each in LLAMA for word in ("--set", each)]
    ended = call("simulate", recipe, "--out", tmp_path / "runs", *settings)
    assert ended.status == 0
    assert "the column 'input' is not read" in ended.err + ended.out
