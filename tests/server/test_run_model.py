"""The model of a run: the operator's file, or the log of a run that has begun; never a node's announcement."""

from dataclasses import replace

import pytest

from client.check import describe_base
from client.settings import read_node
from common.errors import ConfigError, JournalError, ModelError
from common.huggingface.base_file import BaseFile, write_base_file
from common.settings.recipe import LoraSettings
from common.settings.server import RunBase
from server.run_model import find_model
from server.storage.journal import Journal
from tests.helpers.client.nodes import write_node
from tests.helpers.server.exchange import described
from tests.helpers.server.runs import fresh, plan, run

REST = {"name": "numbers", "targets": "query-value", "max_length": 8}


@pytest.fixture
def base(tmp_path):
    write_base_file(tmp_path / "base.toml", BaseFile.of(described(), **REST))
    return RunBase(str(tmp_path / "base.toml"))


def found(folder, base, ranks=(4, 16), lora=LoraSettings()):  # noqa: B008
    with Journal.open(folder / "journal") as journal:
        return find_model(base, lora, journal, folder / "adapter", ranks)


def test_a_new_run_has_the_files_model_and_the_largest_rank_of_the_roster(base, tmp_path):
    model, name = found(tmp_path, base)
    assert (model.description, model.max_rank, name) == (described(), 16, "numbers")


def test_the_operator_may_set_rank_and_name(base, tmp_path):
    model, name = found(tmp_path, replace(base, max_rank=8, name="org/model"), ranks=())
    assert (model.max_rank, name) == (8, "org/model")


@pytest.mark.parametrize(
    ("change", "ranks", "message"),
    [
        ({"file": None}, (4,), r"\[base\] file is not set; write the file at a node"),
        ({"file": "/nowhere/base.toml"}, (4,), "cannot read /nowhere/base.toml"),
        ({}, (), "the roster has no nodes yet, so the largest rank is unknown"),
    ],
)
def test_what_the_operator_did_not_decide_is_asked_for(change, ranks, message, base, tmp_path):
    with pytest.raises(ConfigError, match=message):
        found(tmp_path, replace(base, **change), ranks)


def test_a_description_of_other_targets_is_refused(base, tmp_path):
    with pytest.raises(ConfigError, match=r"\[lora\] targets = \['q'\], but .*base.toml describes .*'query-value'"):
        found(tmp_path, base, lora=LoraSettings(("q",)))


def test_a_folder_is_compared_with_the_file(base, tmp_path):
    node = read_node(write_node(tmp_path / "node", "bert"))
    write_base_file(tmp_path / "real.toml", describe_base(node, "query-value"))
    real = RunBase(str(tmp_path / "real.toml"), path=node.base.path)
    assert found(tmp_path, real)[0].description.head
    with pytest.raises(ModelError, match=r"\[base\] path = .* has fingerprint"):
        found(tmp_path, replace(base, path=node.base.path))


def test_a_run_that_has_begun_keeps_its_model(base, tmp_path):
    run(tmp_path / "journal", fresh(), plan(1))
    assert found(tmp_path, RunBase())[0] == found(tmp_path, base, ranks=(99,))[0]
    assert found(tmp_path, base)[0].max_rank == 8
    with pytest.raises(JournalError, match=r"\[base\] max_rank = 9, but the run began with 8"):
        found(tmp_path, replace(base, max_rank=9))
    write_base_file(tmp_path / "other.toml", BaseFile.of(described("other"), **REST))
    with pytest.raises(JournalError, match=r"began with a base of fingerprint base, and .*other.toml describes other"):
        found(tmp_path, replace(base, file=str(tmp_path / "other.toml")))
