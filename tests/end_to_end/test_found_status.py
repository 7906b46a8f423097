"""Found by attack: a status.json that draws on the operator's terminal, or is none, is shown safely or refused."""

import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from tests.helpers.end_to_end.command import ROOT, call, refusal
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.server.monitoring.test_status_reader import BROKEN, NASTY, WRONG, drawing
from tests.server.monitoring.test_status_view import NODE, STATUS

NODES = [NODE | {"last_seen": None, key: NASTY} for key in ("name", "status", "reason", "state", "same_as")]
HOSTILE = STATUS | {"nodes": NODES, "refusals": [{"name": NASTY, "reason": NASTY, "count": 1, "round": 1}]}
HOSTILE |= dict.fromkeys(("phase", "listen", "health"), NASTY)
FORMS = {kind: json.dumps(contents[1]).encode() for kind, contents in WRONG.items()} | BROKEN
CLEAR = re.compile(r"\x1b\[(H|2J)|\r")
"""What our own refresh of a terminal consists of."""


@pytest.fixture
def project(tmp_path):
    made = NumpyProject(tmp_path)
    made.run.mkdir(parents=True)
    return made


def write(project, content):
    (project.run / "status.json").write_bytes(content)


def test_found_S19_no_text_of_a_status_draws_on_the_terminal(project):
    write(project, json.dumps(HOSTILE).encode())
    ended = call("status", project.file)
    assert ended.status == 0
    assert not drawing(ended.out)
    assert "\\x1b[2J\\x9b31m\\u202eevil" in ended.out.replace("\n", "")
    assert "ada" in ended.out  # control: the rest is shown


@pytest.mark.parametrize("form", FORMS)
def test_found_S19_what_is_no_status_is_one_error_that_names_file_and_remedy(form, project):
    write(project, FORMS[form])
    for options in ((), ("--watch",)):
        message = refusal(call("status", project.file, *options))
        assert "status.json is not" in message
        assert "start the server again to rewrite it" in message
        assert message.count("\n") == 1


def test_found_S19_a_watched_status_draws_nothing_on_a_real_terminal(project):
    write(project, json.dumps(HOSTILE).encode())
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "fedlora.py"), "status", str(project.file), "--watch"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    shown, until = "", time.monotonic() + 60
    while shown.count("evil") < 7 and time.monotonic() < until:
        shown += os.read(ours, 4096).decode()
    process.kill()
    process.wait()
    os.close(ours)
    assert "evil" in shown
    assert "\x1b" in shown  # control: it is a terminal, which is cleared
    assert not drawing(CLEAR.sub("", shown))


def test_found_S19_an_error_that_quotes_a_file_or_a_word_draws_nothing(project, tmp_path):
    odd = tmp_path / "a\x1b[2J\x9b\u202e.toml"
    odd.write_text('project = "\\u001b[2J"\n"\\u009b31m" = 1\n')
    for words in (("server", odd), ("client", odd), ("status", odd), ("simulate", odd), ("verify", odd)):
        message = refusal(call(*words))
        assert not drawing(message)
        assert "\\x1b[2J\\x9b\\u202e" in message
