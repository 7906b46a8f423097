import os

import pytest

from client.results.folder import NodeFolder
from client.results.saved_adapter import SavedUpdate
from client.results.unfinished import unfinished_runs
from client.settings import read_node

FILES = {"adapter_config.json": b"{}"}
PROJECT = "ab" * 32


@pytest.fixture
def begin(tmp_path):
    """Return a function that makes the folder of a run whose identity is one letter 64 times."""
    (tmp_path / "node.toml").write_text('name = "ada"\nrank = 4\nbase = "base"\ndata = "rows.jsonl"\n')
    node, ages = read_node(tmp_path / "node.toml"), iter(range(1, 100))

    def begin(letter, project=PROJECT, update=None):
        folder = NodeFolder.begin(tmp_path / "runs", node, f"run-{letter}", 64 * letter, project)
        if update:
            folder.save(update, FILES)
        os.utime(folder.path / "run.json", (age := next(ages), age))
        return folder

    return begin


def letters(tmp_path, current="f"):
    return "".join(run[0] for run in unfinished_runs(tmp_path / "runs", PROJECT, 64 * current))


def test_those_without_a_signed_last_update_are_named_the_newest_first(begin, tmp_path):
    begin("a", update=SavedUpdate(1, b"update"))
    begin("b", update=SavedUpdate(1, b"update", "ab"))
    begin("c")
    begin("f")
    assert letters(tmp_path) == "ca"


def test_a_run_of_another_project_or_of_none_is_not_told(begin, tmp_path):
    begin("a", project="cd" * 32)
    begin("b", project="")
    begin("c")  # control
    assert letters(tmp_path) == "c"
    assert unfinished_runs(tmp_path / "runs", "", 64 * "f") == {}


def test_one_whose_update_or_adapter_is_damaged_gets_it_again(begin, tmp_path):
    for letter in "abc":
        begin(letter, update=SavedUpdate(1, b"update", "ab"))
    (tmp_path / "runs" / "run-a" / "update").write_bytes(b"half")
    (tmp_path / "runs" / "run-b" / "adapter" / "adapter_config.json").unlink()
    assert letters(tmp_path) == "ba"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'"text"', b"\xff"])
def test_what_is_no_folder_of_a_run_is_passed_over(begin, tmp_path, content):
    folder = begin("a").path
    begin("b")
    (tmp_path / "runs" / "link").symlink_to(folder)
    (tmp_path / "runs" / "file").touch()
    (folder / "run.json").write_bytes(content)
    assert letters(tmp_path) == "b"
