"""The command as a user types it: in a process of its own, or in this one where that is enough."""

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

import fedlora

ROOT = Path(__file__).parents[3]
TINY = ROOT / "simulations" / "recipes" / "tiny.toml"


@dataclass(frozen=True)
class Ended:
    """The end of a command: its exit status and its output."""

    status: int
    out: str
    err: str


def start(*words: object, log: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
    """`fedlora WORDS` in a process of its own, which runs on; `log` takes its standard error."""
    command = [sys.executable, str(ROOT / "fedlora.py"), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def end(process: subprocess.Popen[str]) -> Ended:
    """Wait for the process to end, and return its status and output."""
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Ended(process.returncode, out, err)


def call(*words: object) -> Ended:
    """`fedlora WORDS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["fedlora", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            fedlora.main()
    return Ended(int(caught.value.code or 0), out.getvalue(), err.getvalue())


def settings(*assignments: str) -> list[str]:
    """Return the assignments as `--set` options."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def refusal(ended):
    """Return the message of a command that refused its input, which must be its whole output."""
    assert ended.status == 2, ended
    assert "Traceback" not in ended.out + ended.err
    assert "run:" not in ended.out
    assert "error: " in ended.err
    return ended.err
