import os
import signal
from pathlib import Path

import pytest

from client.results.folder import NodeFolder
from client.results.saved_adapter import SavedUpdate
from client.settings import read_node
from common.errors import JournalError

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}
LATER = {name: content + b"later" for name, content in FILES.items()}


@pytest.fixture
def node(tmp_path):
    (tmp_path / "node.toml").write_text('name = "ada"\nrank = 4\nbase = "base"\ndata = "rows.jsonl"\n')
    return read_node(tmp_path / "node.toml")


def begun(node, run="a" * 64):
    return NodeFolder.begin(Path(node.data.path).parent / "runs", node, "first", run)


def test_what_is_saved_is_read_back(node):
    folder, update = begun(node), SavedUpdate(3, b"buffer", "ab")
    folder.save(update, FILES)
    assert NodeFolder.open(folder.path).update == update
    assert folder.node.name == "ada"
    assert {each.name: each.read_bytes() for each in (folder.path / "adapter").iterdir()} == FILES


@pytest.mark.parametrize("name", ["..", "a/b", "/etc", "", "a" * 65, "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(node, name, tmp_path):
    with pytest.raises(ValueError, match="no name of a folder"):
        NodeFolder.begin(tmp_path / "runs", node, name, "a" * 64)
    assert not (tmp_path / "runs").exists()


def test_the_folder_of_another_run_of_this_name_stays(node):
    first = begun(node)
    first.save(SavedUpdate(1, b"first"), FILES)
    other = begun(node, "b" * 64)
    other.save(SavedUpdate(1, b"other"), LATER)
    assert first.path != other.path
    assert NodeFolder.open(first.path).update.buffer == b"first"
    assert begun(node).path == first.path


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
def test_a_changed_update_is_named(node, change):
    folder = begun(node)
    folder.save(SavedUpdate(1, b"buffer"), FILES)
    path = folder.path / "update"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(JournalError, match="update cannot be used"):
        folder.update  # noqa: B018


def test_another_folder_is_no_run(tmp_path):
    with pytest.raises(JournalError, match=r"run.json is missing"):
        NodeFolder.open(tmp_path)


def test_killed_at_any_move_the_last_whole_one_is_there(node, tmp_path):
    """The child dies at its n-th `os.replace`; afterwards, update and PEFT folder are each whole."""
    number, moved, mixed = 0, True, 0
    while moved:
        number += 1
        folder = NodeFolder.begin(tmp_path, node, f"run-{number}", "a" * 64)
        folder.save(SavedUpdate(1, b"first"), FILES)
        if (child := os.fork()) == 0:
            die_at(number)
            folder.save(SavedUpdate(2, b"second"), LATER)
            os._exit(0)
        moved = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        again = NodeFolder.begin(tmp_path, node, f"run-{number}", "a" * 64)
        assert again.update in (SavedUpdate(1, b"first"), SavedUpdate(2, b"second"))
        assert {each.name: each.read_bytes() for each in (again.path / "adapter").iterdir()} in (FILES, LATER)
        assert not [*again.path.glob(".*.tmp")]
        assert again.foreign_file() is None
        mixed += again.changed_file() is not None
    assert number > 3  # control: it did die
    assert mixed  # control: between the update and its PEFT folder too


def test_killed_twice_before_the_peft_folder_is_replaced_it_is_still_known(node):
    folder = begun(node)
    folder.save(SavedUpdate(1, b"first"), FILES)
    for number in (2, 3):
        if (child := os.fork()) == 0:
            die_at(2)
            folder.save(SavedUpdate(number, b"%d" % number), LATER)
        os.waitpid(child, 0)
    assert (folder.update.round, folder.foreign_file()) == (3, None)
    (folder.path / "adapter" / "adapter_config.json").write_bytes(b"[]")
    assert "adapter_config.json is changed" in folder.foreign_file()


def die_at(number):
    left, moves = [number], {name: getattr(os, name) for name in ("replace", "rename")}

    def die_or(move):
        def moving(*args, **more):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return move(*args, **more)

        return moving

    for name, move in moves.items():
        setattr(os, name, die_or(move))
