import os
import pty
import re
import shutil
import sys
from contextlib import suppress

import pytest
import typer

import fedlora
from client.settings import read_node
from server.algorithms import ALGORITHMS
from server.settings import read_server
from tests.helpers.end_to_end.command import ROOT, TINY, call, end, settings, start
from tests.helpers.simulations.runs import BRIEF, hashes, run_tiny

VERBS = ("simulate", "evaluate", "export", "merge", "generate", "verify", "algorithms")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("run"), *BRIEF, "train.steps=10", "train.lr=5e-2")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb):
    ended = call(verb, "--help")
    assert ended.status == 0
    assert f"fedlora {verb}" in ended.out or "Usage" in ended.out
    assert len(ended.out.splitlines()) > 4


def test_help_lists_every_verb_with_what_it_does():
    shown = call("--help").out
    assert typer.main.get_command(fedlora.app).commands.keys() >= set(VERBS)
    assert all(re.search(rf"{verb}\s+[A-Z]\w+", shown) for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("simulat",), "simulate"),
        (("simulate",), "RECIPE"),
        (("simulate", TINY, "--sets", "a=1"), "--sets"),
        (("verify",), "RUN"),
        (("export", "run", "out", "--rank", "four"), "four"),
        (("generate", "run"), "--prompt"),
    ],
)
def test_a_wrong_word_ends_with_2(words, said):
    ended = call(*words)
    assert ended.status == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "words", [("verify",), ("evaluate",), ("export", "OUT"), ("merge", "OUT"), ("generate", "--prompt", "a")]
)
def test_a_folder_that_is_no_run_is_refused(tmp_path, words):
    out = tmp_path / "out"
    verb, *rest = (out if word == "OUT" else word for word in words)
    ended = call(verb, tmp_path, *rest)
    assert ended.status == 2
    assert ended.err.startswith(f"error: {tmp_path}")
    assert not out.exists()


def test_algorithms_are_listed_with_what_they_are():
    lines = call("algorithms").out.splitlines()
    assert [line.split()[0] for line in lines[::4]] == list(ALGORITHMS)
    assert all(len(line.split()) > 4 for line in lines[::4])
    for place, what in enumerate(("travels:", "node keeps:", "server keeps:"), 1):
        assert all(line.strip().startswith(what) for line in lines[place::4])
    assert sum("nothing from one round to the next" in line for line in lines) == len(ALGORITHMS) - 1


@pytest.mark.parametrize(("room", "read"), [("server", read_server), ("client", read_node)])
def test_an_example_is_a_file_as_it_is_printed(tmp_path, room, read):
    ended = call(room, "--example")
    file = tmp_path / f"{room}.toml"
    file.write_text(ended.out)
    assert (ended.status, ended.err) == (0, "")
    assert read(file).keys == str(tmp_path / "keys")


def test_in_a_process_of_its_own():
    ended = end(start("algorithms"))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == call("algorithms").out


def test_verify_says_that_a_run_is_intact(run):
    ended = call("verify", run)
    assert ended.status == 0
    first, second = ended.out.splitlines()
    assert first == f"intact: rounds 0 to 2, last adapter {hashes(run)[-1]}"
    assert second == "rounds 1 to 2 checked by the log alone: their updates are not kept"


@pytest.mark.parametrize(("file", "number"), [("log.jsonl", 1), ("round-000001.state", 1), ("round-000002.state", 2)])
def test_verify_finds_a_flipped_byte_and_names_the_round(run, tmp_path, file, number):
    copy = shutil.copytree(run, tmp_path / "copy")
    damaged = copy / "journal" / file
    content = bytearray(damaged.read_bytes())
    at = content.index(b"\n") + 100 if file == "log.jsonl" else len(content) // 2
    content[at] ^= 1
    damaged.write_bytes(content)
    ended = call("verify", copy)
    assert ended.status == 2
    assert f"round {number}" in ended.err
    assert str(damaged) in ended.err


def test_a_terminal_gets_a_live_line_on_stderr(tmp_path):
    words = ["simulate", TINY, "--out", tmp_path, "--name", "run", *settings(*BRIEF, "train.steps=30")]
    status, shown = _on_a_terminal([str(ROOT / "fedlora.py"), *map(str, words)], tmp_path / "out.txt")
    assert status == 0
    assert (tmp_path / "out.txt").read_text() == f"run: {tmp_path / 'run'}\n"
    assert "\x1b[?25l" in shown  # the cursor is hidden, and comes back
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "round 2/2" in shown
    assert re.search(r"\d/4 clients", shown)
    assert shown.count("round 1/2") > 1


def _on_a_terminal(words, out):
    """Return a Python program's exit status, and its output on a terminal; its stdout goes to a file."""
    child, terminal = pty.fork()
    if child == 0:
        os.dup2(os.open(out, os.O_CREAT | os.O_WRONLY), 1)
        os.execve(sys.executable, [sys.executable, *words], os.environ | {"TERM": "xterm", "COLUMNS": "120"})
    shown = b""
    with suppress(OSError):  # how Linux tells that the other side is closed
        while part := os.read(terminal, 4096):
            shown += part
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


@pytest.mark.parametrize(
    ("command", "text"),
    [("simulate", "TOML file, see"), ("evaluate", "Folder of a run"), ("merge", "New folder to write")],
)
def test_help_tells_what_each_argument_is(command, text):
    assert text in call(command, "--help").out
