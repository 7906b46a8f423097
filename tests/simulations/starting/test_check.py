"""`fedlora check`: rows as a run would read them, and what to change; nothing is trained."""

import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from client.checking.advice import Advice, advise
from client.checking.checked import check_node_file
from client.checking.page import show
from client.columns.page import show_data
from client.columns.suggestion import suggest
from client.objectives.classification import Classification
from simulations.starting.check import survey_file
from simulations.starting.check_recipe import check_recipe
from simulations.tiny_base import tiny_base
from tests.helpers.client.nodes import write_node
from tests.helpers.end_to_end.command import ROOT, TINY, call, end, refusal, settings, start
from tests.helpers.simulations.runs import toy_rows, write_recipe

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e[red]x"


def write(file, rows):
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def changes(out):
    """Return the lines under "What to change"."""
    return out.partition("What to change\n")[2].strip().splitlines()


def test_a_recipe_shows_base_rows_labels_by_client_and_tokens():
    ended = call("check", TINY)
    assert ended.status == 0, ended.err
    for wanted in ("BertForSequenceClassification", "max_length = 32 cuts none", "<cls>", "<sep>", "target: "):
        assert wanted in ended.out
    labels = ended.out.partition("Labels\n")[2].splitlines()
    assert labels[0].split() == ["client-00", "client-01", "client-02", "client-03", "test", "all"]
    assert labels[1].split()[0::6] == ["farm", "100"]
    assert changes(ended.out) == ["nothing"]
    assert "\x1b" not in ended.out


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("check", TINY).status == 0
    assert list(tmp_path.iterdir()) == []


def test_a_setting_of_the_command_line_is_checked():
    ended = call("check", TINY, *settings("data.max_length=10"))
    assert "max_length = 10 cuts" in ended.out
    (line,) = changes(ended.out)
    assert line.startswith("[data] max_length = 16  # ")


def test_clients_with_few_labels_are_told_of_gradients():
    many = call("check", TINY, *settings("clients.beta=0.01"))
    assert '[server] algorithm = "fedsgd"' in many.out
    assert "fedsgd" not in call("check", TINY, *settings("clients.partition=iid")).out


def test_a_node_shows_what_carries_loss_between_marks(tmp_path):
    ended = call("check", write_node(tmp_path, "llama", task="causal-lm"))
    assert ended.status == 0, ended.err
    assert "⟦ farm<eos>⟧" in ended.out
    assert "2 carry loss" in ended.out


def test_a_terminal_shows_it_in_colour(tmp_path):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, color_system="standard")
    checked = check_node_file(write_node(tmp_path, "llama", task="causal-lm"))
    show(checked, (), console)
    assert "\x1b[1;32m farm\x1b[0m" in text.getvalue()
    assert "⟦" not in text.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(tmp_path, width):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    show(*check_recipe(TINY, ["clients.count=30", "clients.min_rows=1"]), console)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text.getvalue()
    labels = text.getvalue().partition("Labels\n")[2].splitlines()
    assert labels[1].split()[-1] == "100"


def test_what_is_wrapped_on_a_terminal_stays_below_its_name_or_is_a_comment():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=60, color_system=None)
    checked, _ = check_recipe(TINY, [])
    show(checked, [Advice("max_length = 64", f"{'many words that tell why ' * 8}end")], console)
    base = text.getvalue().partition("Rows\n")[0].splitlines()[1:-1]
    assert [line for line in base if line.startswith(" " * 11)] and all(line[9:11] == "  " for line in base)
    changed = changes(text.getvalue())
    assert changed[0] == "max_length = 64" and len(changed) > 3
    assert tomllib.loads("\n".join(changed)) == {"max_length": 64}
    assert " ".join(changed).endswith("end")


@pytest.mark.parametrize("width", [80, 200])
def test_rows_alone_fit_the_terminal_too(tmp_path, width):
    path = write(tmp_path / "rows.jsonl", [{"story": f"{'long ' * 40}{n}", f"c{'x' * 60}": n} for n in range(9)])
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    found = survey_file(path)
    show_data(path, found, suggest(found), console, brief=False)
    assert max(map(len, text.getvalue().splitlines())) <= width
    assert "…" not in text.getvalue()


def test_found_D5_rows_of_alpaca_need_no_key_but_the_task_and_are_read_whole(tmp_path):
    rows = [{"instruction": f"boat {n}", "input": f"tide {n}", "output": "harbour"} for n in range(20)]
    path = write(tmp_path / "rows.jsonl", rows)
    ended = call("check", path, "--base", "tiny:gpt2")
    assert [line.partition("  #")[0] for line in changes(ended.out)] == ['task = "causal-lm"']
    assert "tide 0" in ended.out.partition("As the model sees them")[2]
    assert "prompt 'instruction', completion 'output'; where filled 'input'" in ended.out


def test_found_D5_a_column_that_is_not_read_is_no_label(tmp_path):
    rows = [{"instruction": f"boat {n}", "input": f"tide {n}", "output": "harbour"} for n in range(200)]
    path = write(tmp_path / "rows.jsonl", rows)
    recipe = write_recipe(tmp_path, path, task="causal-lm", text="text", prompt="instruction", completion="output")
    ended = call("check", recipe, *settings("base.path=tiny:llama", "clients.partition=iid"))
    assert ended.status == 0, ended.err
    (line,) = [line for line in changes(ended.out) if "'input' is not read" in line]
    assert line.startswith("see to a column  # ")


def test_rows_alone_and_rows_for_a_base_have_each_section_once(tmp_path):
    path = write(tmp_path / "rows.jsonl", toy_rows(text="text", label="label")[:40])
    plain, based = (call("check", path, *more).out.splitlines() for more in ([], ["--base", "tiny:bert"]))
    for title in ("File", "Columns", "Layout", "Lengths", "Labels", "What to change"):
        assert (plain.count(title), based.count(title)) == (1, 1)
    assert (plain.count("Rows"), based.count("Rows")) == (0, 1)


def test_a_node_is_checked_for_the_targets_of_its_server(tmp_path):
    file = write_node(tmp_path, policy={"targets": ["query", "value", "classifier"]})
    assert "5 modules" in call("check", file).out
    message = refusal(call("check", file, "--targets", "all-linear"))
    assert "[policy] targets" in message and "leaves out" in message
    free = write_node(tmp_path / "free")
    assert "14 modules" in call("check", free, "--targets", "all-linear").out


def test_rows_longer_than_the_base_are_to_be_split_and_no_limit_that_mends_nothing_is_told(tmp_path):
    rows = [{"text": "boat " * (2000 if n == 3 else n), "label": "ab"[n % 2]} for n in range(1, 41)]
    recipe = write_recipe(tmp_path, write(tmp_path / "rows.jsonl", rows), test_rows=4)
    words = settings("clients.ranks=[2]", "clients.count=2", "clients.min_rows=2", "data.max_length=256")
    assert changes(call("check", recipe, *words).out) == [
        "split long rows  # 1 of 40 rows (2.5%) are cut, and the base has 513 positions"
    ]


def test_an_unknown_encoding_is_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"text": "a"}])
    assert "no such encoding of text" in refusal(call("check", path, "--encoding", "latin-99"))
    assert call("check", path, "--encoding", "latin-1").status == 0


def test_targets_go_with_a_node(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"text": "a"}])
    for file in (TINY, path):
        assert "--targets goes with a node's file" in refusal(call("check", file, "--targets", "all-linear"))


def test_a_row_is_tokenised_once(tmp_path, monkeypatch):
    seen = []
    plain = Classification.encode

    def counted(self, rows, *more):
        seen.append(len(rows))
        return plain(self, rows, *more)

    monkeypatch.setattr(Classification, "encode", counted)
    ended = call("check", write_node(tmp_path, rows=24, max_length=8))
    assert ended.status == 0, ended.err
    assert sum(seen) == 24
    cut, longest = re.search(r"max_length = 8 cuts (\d+)", ended.out), re.search(r"longest (\d+) tokens", ended.out)
    assert int(cut[1]) > 0 and int(longest[1]) > 8


def test_text_of_rows_cannot_act_on_the_terminal(tmp_path):
    rows = [{HOSTILE: HOSTILE + str(n), "label": f"{HOSTILE}{n % 2}"} for n in range(20)]
    path = write(tmp_path / "rows.jsonl", rows)
    ended = call("check", path, "--base", "tiny:bert")
    assert ended.status == 0, ended.err
    assert not {"\x1b", "\x07", "\u202e"} & {*ended.out}
    assert "\\x1b" in ended.out
    assert "[red]" in ended.out


def test_cut_rows_repeated_rows_and_labels_alike_are_told_with_what_to_set(tmp_path):
    rows = [{"text": "boat " * (n + 1), "label": ("a", "A ", "b")[n % 3]} for n in range(60)]
    path = write(tmp_path / "rows.jsonl", [*rows, *rows[:10], {"text": "boat " * 3, "label": "a"}])
    ended = call("check", write_recipe(tmp_path, path, test_rows=20))
    found = "\n".join(changes(ended.out))
    assert "[data] max_length = " in found
    assert f"remove repeated rows from {path}" in found
    assert "write labels alike" in found
    assert "decide on one label for equal texts" in found


def test_a_base_of_16_bits_is_better_held_as_stored(tmp_path):
    file = write_node(tmp_path)
    folder = tmp_path / "half"
    folder.mkdir()
    for each in tiny_base("bert").iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v.to(torch.bfloat16) for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    assert list(advise(check_node_file(file))) == []
    held = write_node(tmp_path / "other", base=str(folder))
    assert [each.setting for each in advise(check_node_file(held))] == ['dtype = "auto"']


def test_rows_left_out_are_counted_by_reason(tmp_path):
    path = write(tmp_path / "rows.jsonl", [*toy_rows(text="text", label="label")[:60], {"text": "", "label": "farm"}])
    ended = call("check", write_recipe(tmp_path, path, skip_bad_rows=True, test_rows=8))
    assert "1 row left out (line 61): 'text' is empty" in ended.out
    assert f"fix 1 row in {path}" in ended.out


@pytest.mark.parametrize("change", [{"text": "body"}, {"task": "clasification"}, {"max_length": 2}])
def test_what_a_run_would_refuse_is_refused_alike(tmp_path, change):
    path = write(tmp_path / "rows.jsonl", toy_rows(text="text", label="label"))
    recipe = write_recipe(tmp_path, path, **change)
    checked = refusal(call("check", recipe))
    assert checked == refusal(call("simulate", recipe)).replace("reading base model and data\n", "")


def test_a_row_that_cannot_be_used_is_named(tmp_path):
    path = write(tmp_path / "rows.jsonl", [*toy_rows(text="text", label="label"), {"text": 7, "label": "farm"}])
    message = refusal(call("check", write_recipe(tmp_path, path)))
    assert f"{path}, line 401: 'text' is not text but int" in message


def test_a_policy_that_would_decline_the_run_is_refused(tmp_path):
    message = refusal(call("check", write_node(tmp_path, policy={"max_rank": 1})))
    assert "rank = 4 is above [policy] max_rank = 1" in message


def test_a_file_of_rows_shows_columns_layout_and_keys(tmp_path):
    random.seed(1)
    rows = [{"body": "boat " * random.randint(1, 9), "queue": "ab"[n % 2], "hospital": "x"} for n in range(40)]
    path = write(tmp_path / "rows.jsonl", rows)
    ended = call("check", path)
    assert ended.status == 0, ended.err
    assert "40 rows" in ended.out
    assert [line.partition("  #")[0] for line in changes(ended.out)] == [
        'text = "body"',
        'label = "queue"',
        'labels = ["a", "b"]',
    ]
    assert "tokens" not in ended.out


def test_a_file_of_rows_shows_tokens_of_a_base(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"prompt": f"boat {n}", "completion": "farm"} for n in range(9)])
    ended = call("check", path, "--base", "tiny:llama")
    assert "⟦" in ended.out
    assert changes(ended.out)[0].startswith('task = "causal-lm"')


def test_a_file_of_long_rows_shows_the_length_to_set(tmp_path):
    rows = [{"prompt": "boat " * 200, "completion": f"farm {n}"} for n in range(9)]
    ended = call("check", write(tmp_path / "rows.jsonl", rows), "--base", "tiny:llama")
    assert "max_length = 208  # the default is 128, and cuts 9 of 9 rows" in ended.out


def test_long_names_are_whole_where_there_is_no_terminal(tmp_path):
    name = "column_" * 20
    path = write(tmp_path / "rows.jsonl", [{"text": "a b", name: n} for n in range(9)])
    assert name in call("check", path).out


def test_a_file_of_rows_says_what_cannot_be_read(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"text": "a b c"}] * 3)
    path.write_text(path.read_text() + "{\n")
    ended = call("check", path)
    assert "skip_bad_rows = true  # 1 of 4 rows cannot be read" in ended.out
    path.write_text("{\n{\n")
    assert "none of its 2 rows can be read" in refusal(call("check", path))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["no.csv"], "cannot read no.csv"),
        (["no.toml"], "cannot read no.toml"),
        (["rows.doc"], "which is not a known kind of file"),
        ([TINY, "--base", "tiny:bert"], "--base goes with a file of rows"),
        (["server.toml"], "is a server's file"),
        (["rows.csv", "--set", "a=b"], "--set goes with a recipe"),
    ],
)
def test_what_cannot_be_checked_is_refused(tmp_path, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.doc").write_text("a")
    (tmp_path / "rows.csv").write_text("text\na\n")
    (tmp_path / "server.toml").write_text('project = "a"\nrun = "b"\nrounds = 1\n')
    assert reason in refusal(call("check", *words))


def test_text_that_the_outputs_encoding_does_not_have_is_spelt_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    path = write(tmp_path / "rows.jsonl", [{"text": f"é {n}", "label": "éa"[n % 2]} for n in range(20)])
    ended = end(start("check", path))
    assert ended.status == 0, ended.err
    assert "\\xe9" in ended.out


@pytest.mark.skipif(not shutil.which("script"), reason="needs the command script")
def test_a_terminal_of_its_own_shows_colours(tmp_path):
    """Through `script`, as a user sees it."""
    file = write_node(tmp_path, "llama", task="causal-lm")
    command = f"{sys.executable} {ROOT / 'fedlora.py'} check {file}"
    words = ["script", "-qec", command, "/dev/null"]
    shown = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "TERM": "xterm"}, timeout=120)
    assert "\x1b[1;32m farm" in shown.stdout
