"""`fedlora init`: first files that pass `fedlora check` and run as they are."""

import csv
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from client.node import load_node
from client.settings import read_node
from server.settings import read_server
from simulations.recipe import read_recipe
from simulations.simulate import simulate
from simulations.tiny_base import tiny_base
from tests.helpers.client.own_heads import with_own_head
from tests.helpers.end_to_end.command import ROOT, call, refusal
from tests.helpers.simulations.runs import records, toy_rows

BRIEF = ["train.rounds=1", "train.steps=1", "workers=1"]
NODE = ("--name", "clinic", "--server", "fed.example.org:8443")


@pytest.fixture
def tickets(tmp_path, monkeypatch):
    """Return a table of 400 rows with odd names of columns, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rows = toy_rows(text="body", label="queue")
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["nr", "hospital", "body", "queue"])
        table.writerows([number, "ABC"[number % 3], row["body"], row["queue"]] for number, row in enumerate(rows))
    return tmp_path / "tickets.csv"


def write(file, rows):
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def said_nothing_to_change(out):
    return out.rstrip().endswith("What to change\nnothing")


def test_a_recipe_from_a_table_passes_the_check_and_runs(tickets):
    ended = call("init", "recipe", "--data", "tickets.csv", "--base", "tiny:bert", "--yes")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[0] == "written: tickets.toml"
    assert "next: fedlora check tickets.toml" in ended.out
    checked = call("check", "tickets.toml")
    assert said_nothing_to_change(checked.out), checked
    run = simulate(tickets.with_name("tickets.toml"), BRIEF, "run", tickets.parent, None)
    assert len(records(run)) == 2
    assert sorted(file.stem for file in (run / "nodes").glob("*.toml")) == ["A", "B", "C"]


def test_a_recipe_says_what_it_found(tickets):
    call("init", "recipe", "mine.toml", "--data", "tickets.csv", "--base", "tiny:bert", "--rounds", 3)
    recipe = read_recipe(tickets.with_name("mine.toml"), [])
    assert (recipe.data.text, recipe.data.label, recipe.base.dtype) == ("body", "queue", "auto")
    assert (recipe.clients.partition, recipe.clients.column, recipe.train.rounds) == ("column", "hospital", 3)
    text = tickets.with_name("mine.toml").read_text()
    assert re.search(r'^path = "tickets.csv" +# ', text, re.MULTILINE)
    assert "#algorithm" in text


@pytest.mark.parametrize(
    ("rows", "base", "task"),
    [
        (toy_rows(text="prompt", label="completion"), "tiny:llama", "causal-lm"),
        (
            [
                {"messages": [{"role": "user", "content": row["a"]}, {"role": "assistant", "content": row["b"]}]}
                for row in toy_rows(text="a", label="b")
            ],
            "tiny:llama",
            "causal-lm",
        ),
        (
            [{"prompt": r["a"], "chosen": r["b"], "rejected": "no"} for r in toy_rows(text="a", label="b")],
            "tiny:llama",
            "preference",
        ),
    ],
    ids=["answers", "chats", "pairs"],
)
def test_a_recipe_of_each_layout_passes_the_check(tmp_path, monkeypatch, rows, base, task):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", rows)
    assert call("init", "recipe", "--data", "rows.jsonl", "--base", base).status == 0
    assert read_recipe(tmp_path / "rows.toml", []).data.task == task
    checked = call("check", "rows.toml")
    assert checked.status == 0, checked.err


def test_a_node_has_its_labels_in_order_and_passes_the_check(tickets):
    ended = call("init", "node", "--data", "tickets.csv", "--base", tiny_base("bert"), *NODE)
    assert ended.status == 0, ended.err
    assert "keys: not set" in ended.out
    node = read_node(tickets.with_name("client.toml"))
    assert node.data.labels == ("farm", "harbour", "kitchen", "station")
    assert (node.name, node.base.dtype, node.data.text) == ("clinic", "auto", "body")
    assert said_nothing_to_change(call("check", "client.toml").out)


def test_a_node_beside_keys_names_them(tickets):
    tickets.with_name("keys").mkdir()
    call("init", "node", "--data", "tickets.csv", "--base", tiny_base("bert"), *NODE)
    assert read_node(tickets.with_name("client.toml")).keys == str(tickets.with_name("keys"))


def test_rows_that_cannot_be_used_are_told_and_left_out(tickets):
    with tickets.open("a") as file:
        file.write("1;A;;farm\n")
    ended = call("init", "recipe", "--data", "tickets.csv", "--base", "tiny:bert")
    assert "1 rows cannot be used, so it sets skip_bad_rows = true" in ended.out
    assert call("check", "tickets.toml").status == 0


def test_long_rows_are_not_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", [{"text": "boat " * (100 + n % 60), "label": "ab"[n % 2]} for n in range(80)])
    call("init", "recipe", "--data", "rows.jsonl", "--base", "tiny:bert")
    assert "max_length = 168 " in (tmp_path / "rows.toml").read_text()


def test_chats_longer_than_the_default_are_all_learned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    turns = [("user", "where is the boat? " * 30), ("assistant", "at the harbour")]
    chat = [{"role": role, "content": content} for role, content in turns]
    write(tmp_path / "rows.jsonl", [{"messages": chat}] * 60)
    ended = call("init", "recipe", "--data", "rows.jsonl", "--base", "tiny:llama")
    assert "60 rows, causal-lm: messages 'messages'" in ended.out
    assert "cannot be used" not in ended.out
    assert read_recipe(tmp_path / "rows.toml", []).data.max_length > 128


@pytest.mark.parametrize("clients", [1, 6, 20])
def test_few_rows_of_many_labels_pass_the_check(tmp_path, monkeypatch, clients):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", [{"text": f"boat {n}", "label": f"l{n % 30}"} for n in range(60)])
    assert call("init", "recipe", "--data", "rows.jsonl", "--base", "tiny:bert", "--clients", clients).status == 0
    assert call("check", "rows.toml").status == 0


def test_more_clients_than_rows_are_refused(tickets):
    words = ("init", "recipe", "--data", "tickets.csv", "--base", "tiny:bert", "--clients", 300)
    assert "--clients 300: 360 rows to train on are too few" in refusal(call(*words))


def test_a_server_file_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("init", "server", "--project", "cardio", "--rounds", 5).status == 0
    server = read_server(tmp_path / "server.toml")
    assert (server.project, server.run, server.rounds) == ("cardio", "first", 5)


@pytest.mark.parametrize("kind", ["recipe", "node", "server"])
def test_a_file_is_never_overwritten(tickets, kind):
    file = tickets.with_name("there.toml")
    file.write_text("mine")
    assert "there.toml exists and is left as it is" in refusal(call("init", kind, "there.toml"))
    assert file.read_text() == "mine"


def test_found_D5_a_recipe_for_alpaca_reads_all_of_its_columns_and_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"instruction": f"boat {n}", "input": f"tide {n}" if n % 2 else "", "output": "harbour", "text": f"all of {n}"}
        for n in range(100)
    ]
    write(tmp_path / "alpaca.jsonl", rows)
    ended = call("init", "recipe", "--data", "alpaca.jsonl", "--base", "tiny:llama", "--yes")
    assert "causal-lm: prompt 'instruction', completion 'output'; where filled 'input'" in ended.out
    data = read_recipe(tmp_path / "alpaca.toml", []).data
    assert (data.task, data.text, data.prompt, data.completion) == ("causal-lm", "", "prompt", "completion")
    checked = call("check", "alpaca.toml")
    assert said_nothing_to_change(checked.out), checked
    run = simulate(tmp_path / "alpaca.toml", BRIEF, "run", tmp_path, None)
    client = load_node(next((run / "nodes").glob("*-00.toml")))
    texts = [client.base.tokenizer.decode(row.ids) for row in client.train.rows]
    assert any("tide" in text for text in texts) and not any("all of" in text for text in texts)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["recipe"], "--data is missing: File or folder of rows"),
        (["recipe", "--data", "tickets.csv", "--yes"], "--base is missing"),
        (["node", "--data", "tickets.csv", "--base", "tiny:bert"], "--name is missing"),
        (["node", "--data", "tickets.csv", "--base", "tiny:bert", "--name", "a"], "--server is missing"),
        (["server"], "--project is missing"),
        (["server", "--project", "a/b"], "project = 'a/b'"),
        (["recipe", "--data", "no.csv"], "cannot read no.csv"),
        (["recipe", "--data", "tickets.csv", "--base", "no"], "base model folder"),
        (["recipe", "--data", "tickets.csv", "--label", "quue"], "did you mean 'queue'?"),
        (["recipe", "--data", "tickets.csv", "--label", "nr"], "--label nr: the column has no labels"),
        (
            ["recipe", "--data", "tickets.csv", "--base", "tiny:bert", "--owner", "x"],
            "--owner x: the rows have no such",
        ),
        (["recipe", "no/a.toml", "--data", "tickets.csv"], "there is no folder no"),
        (["recipe", "a.txt", "--data", "tickets.csv"], "a.txt does not end in .toml"),
        (["recipe", "--data", "tickets.csv", "--encoding", "no"], "no such encoding of text"),
        (
            ["recipe", "/proc/a.toml", "--data", "tickets.csv", "--base", "tiny:bert"],
            "a.toml cannot be written: No such",
        ),
        (["server", "/proc/a.toml", "--project", "a"], "a.toml cannot be written: No such"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_nothing_is_written(tickets, words, reason):
    assert reason in refusal(call("init", *words))
    assert [file.name for file in tickets.parent.iterdir()] == ["tickets.csv"]


def test_a_base_with_other_classes_gets_a_new_head(tickets):
    base = with_own_head(tickets.parent / "base", ("one", "two", "three"))
    call("init", "recipe", "--data", "tickets.csv", "--base", str(base))
    assert read_recipe(tickets.with_name("tickets.toml"), []).base.head == "new"
    assert call("check", "tickets.toml").status == 0


def test_on_a_terminal_it_asks(tickets):
    """The answers: rows, column of the label, base, the column of the client, rounds."""
    ended = typed(["tickets.csv", "", "tiny:bert", "", "2"], "init", "recipe")
    assert "File or folder of rows:" in ended
    assert "Column of the label [queue]:" in ended
    assert "- for none [hospital]:" in ended
    assert read_recipe(tickets.with_name("tickets.toml"), []).train.rounds == 2


def test_on_a_terminal_yes_asks_nothing(tickets):
    ended = typed([], "init", "recipe", "--data", "tickets.csv", "--base", "tiny:bert", "--yes")
    assert "written: tickets.toml" in ended
    assert "[hospital]" not in ended


def typed(answers, *words):
    """Return what `fedlora WORDS` shows on a terminal on which the answers are typed."""
    ours, its = pty.openpty()
    command = [sys.executable, str(ROOT / "fedlora.py"), *words]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, close_fds=True) as process:
        os.close(its)
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        text = b""
        try:
            while piece := os.read(ours, 4096):
                text += piece
        except OSError:  # The other end is closed.
            pass
        assert process.wait(60) == 0, text
    os.close(ours)
    return text.decode()
