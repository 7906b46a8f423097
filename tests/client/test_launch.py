"""A node needs no PyTorch, which takes seconds to import, until it is let in."""

import subprocess
import sys

from tests.helpers.end_to_end.command import ROOT

START = """
import sys
import client.network.link
import client.launch
assert not {"torch", "transformers"} & sys.modules.keys()
"""
LOAD = """
from pathlib import Path
from common.errors import ConfigError
try:
    client.launch._app(Path("nowhere.toml"))
except ConfigError as error:
    assert "nowhere.toml" in str(error), error
assert {"torch", "transformers"} <= sys.modules.keys()
"""


def python(code):
    """Run the code in a new process, where nothing is imported yet."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_is_not_imported_to_connect():
    ended = python(START)
    assert ended.returncode == 0, ended.stderr


def test_a_node_that_is_let_in_imports_it():
    ended = python(START + LOAD)
    assert ended.returncode == 0, ended.stderr
