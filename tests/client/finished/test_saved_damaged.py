"""A node's folder that is damaged, mixed of two runs or of another base is refused by each command that reads it."""

import shutil
from pathlib import Path

import pytest
import tomli_w

from client.finished.run import load_run
from client.serving.models import Models
from common.errors import FedloraError
from common.huggingface.peft_config import CONFIG
from common.huggingface.peft_folder import WEIGHTS
from common.settings.reader import read_toml
from simulations.tiny_base import tiny_base
from tests.helpers.client.saved import node_folder
from tests.helpers.end_to_end.command import call, refusal


@pytest.fixture(scope="module")
def whole(run_of, tmp_path_factory):
    return node_folder(tmp_path_factory.mktemp("nodes"), run_of("bert"))


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


FILES = ("update", "run.json", "node.toml", f"adapter/{WEIGHTS}", f"adapter/{CONFIG}")

ALSO = {"update": ["has no adapter yet"], "run.json": ["run.json is missing or damaged", "it belongs to run"]}
"""What else names a file: it is not there yet, or its own name is beside the folder's."""


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("spoil", [Path.unlink, cut, flipped, emptied])
def test_a_file_that_is_missing_or_damaged_is_named_with_what_to_do(copy, tmp_path, name, spoil):
    spoil(copy / name)
    told = refusal(call("evaluate", copy))
    assert any(each in told for each in (str(copy / name), *ALSO.get(name, ())))
    assert ";" in told
    for words in (("export", copy, tmp_path / "out"), ("merge", copy, tmp_path / "out"), ("serve", copy, "--port", 0)):
        assert refusal(call(*words)) == told
    assert not (tmp_path / "out").exists()


def test_a_whole_copy_is_accepted(copy):
    """The control."""
    assert call("evaluate", copy).status == 0


@pytest.mark.parametrize("spoil", [Path.unlink, cut, flipped])
def test_no_command_needs_the_history(copy, spoil):
    spoil(copy / "history.jsonl")
    assert call("evaluate", copy).status == 0


def test_the_remedy_for_a_peft_folder_that_was_changed_works(copy, tmp_path):
    cut(copy / "adapter" / WEIGHTS)
    assert f"remove {copy / 'adapter'}" in refusal(call("evaluate", copy))
    shutil.rmtree(copy / "adapter")
    assert call("evaluate", copy).status == 0
    ended = call("export", copy, tmp_path / "out")
    assert ended.status == 0, ended.err
    assert (tmp_path / "out" / WEIGHTS).is_file()


@pytest.fixture
def other(run_of, tmp_path):
    """Return the folder of another run over the same base."""
    return node_folder(tmp_path / "others", run_of("bert"), "b" * 64)


def test_an_update_of_another_run_is_refused(copy, other):
    shutil.copy(other / "update", copy / "update")
    assert "update cannot be used (it belongs to run 'bbbb" in refusal(call("evaluate", copy))


def test_a_peft_folder_of_another_run_is_refused(copy, run_of):
    shutil.rmtree(copy / "adapter")
    shutil.copytree(run_of("roberta") / "adapter", copy / "adapter")
    told = refusal(call("evaluate", copy))
    assert f"{copy / 'adapter' / WEIGHTS} is changed: it was not made of {copy / 'update'}" in told


def set_base(folder, base):
    file = folder / "node.toml"
    file.write_text(tomli_w.dumps(read_toml(file) | {"base": str(base)}))


def test_a_base_that_is_gone_is_named_with_the_file_to_change(copy, tmp_path):
    set_base(copy, tmp_path / "moved")
    told = refusal(call("evaluate", copy))
    assert f"{tmp_path / 'moved'} does not exist" in told
    assert f"set base in {copy / 'node.toml'} to the run's base" in told


def test_another_base_is_refused_by_its_hash_where_all_shapes_fit(copy, whole, tmp_path):
    base = shutil.copytree(load_run(whole).base.folder, tmp_path / "base")
    set_base(copy, base)
    assert call("evaluate", copy).status == 0  # control: a copy of the same base
    flip_last(base / "model.safetensors")
    again = shutil.copytree(base, tmp_path / "changed")
    set_base(copy, again)
    told = refusal(call("evaluate", copy))
    assert f"{copy / 'update'} was trained on the base model" in told
    assert f"set base in {copy / 'node.toml'}" in told


def flip_last(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_base_of_other_shapes_is_refused(copy):
    set_base(copy, tiny_base("roberta"))
    assert "was trained on the base model" in refusal(call("evaluate", copy))


@pytest.fixture
def models(run_of):
    return Models(load_run(run_of("bert")), "mine")


def test_a_nodes_folder_is_served_beside_another_run_only_if_it_is_whole(models, copy):
    models.add("whole", copy)  # control
    flipped(copy / "update")
    with pytest.raises(FedloraError, match="update cannot be used"):
        models.add("damaged", copy)


def test_a_nodes_folder_of_another_base_or_other_labels_is_not_served_beside_a_run(models, copy, run_of, tmp_path):
    strange = node_folder(tmp_path / "nodes", run_of("roberta"))
    with pytest.raises(FedloraError, match=r"was trained on the base model .*; serve it by itself"):
        models.add("strange", strange)
    file = copy / "node.toml"
    labels = read_toml(file)["labels"]
    file.write_text(tomli_w.dumps(read_toml(file) | {"labels": ["elsewhere", *labels[1:]]}))
    with pytest.raises(FedloraError, match=r"has the labels elsewhere, .*; serve it by itself"):
        models.add("other", copy)
