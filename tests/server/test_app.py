"""The ServerApp as any Flower grid starts it: a run folder in, a finished run out."""

import json

import pytest
from flwr.app import Context, RecordDict

from common.huggingface.base_file import BaseFile
from common.huggingface.peft_folder import read_peft_folder
from common.settings.reader import parse_settings, to_tables
from common.settings.recipe import Recipe
from server.app import make_app
from server.metrics.rounds import TestScore
from server.rounds.evaluation import Test
from server.rounds.observer import RunObserver
from server.run_folder import RunFolder
from server.storage.journal_reader import verify_journal
from tests.helpers.common.recipes import with_keys
from tests.helpers.server.exchange import described
from tests.helpers.server.grid import MemoryGrid, answering
from tests.helpers.server.runs import FOUR, hashes

RECIPE = parse_settings(Recipe, with_keys(train={"rounds": 3, "steps": 2}, server={"rank_global": 6}, seed=5), "recipe")


def folder_bytes(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Stop(Exception):
    pass


def serve(folder, **app):
    grid = MemoryGrid({number: answering(node) for number, node in enumerate(FOUR)})
    make_app(**app)(grid, Context(1, 1, {}, RecordDict(), {"run": str(folder.path)}))


@pytest.fixture
def folder(tmp_path):
    return made(tmp_path / "run")


def made(path, recipe=RECIPE):
    """Return a prepared run folder."""
    folder = RunFolder.create(path, to_tables(recipe))
    folder.describe_base(BaseFile.of(described(), name="numbers", targets="query-value", max_length=8))
    return folder


def metrics(folder):
    return [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]


def test_it_runs_to_the_end(folder):
    serve(folder)
    entries = verify_journal(folder.journal)
    assert metrics(folder) == [entry["metrics"] for entry in entries]
    assert [line["round"] for line in metrics(folder)] == [0, 1, 2, 3]
    assert all(line["aggregation_error"] <= 1e-6 for line in metrics(folder)[1:])
    assert read_peft_folder(folder.path / "adapter").adapter.rank == entries[-1]["metrics"]["rank_global"] == 6


def test_whoever_starts_it_may_watch_and_test(folder):
    observer, rounds = RunObserver(), []
    observer.on_round_committed = lambda record: rounds.append(record["round"])
    serve(folder, observer=observer, test=Test(0, lambda adapter: TestScore(adapter.rank, {"accuracy": 0.5})))
    assert rounds == [0, 1, 2, 3]
    assert [line["test_loss"] for line in metrics(folder)] == [0, 6, 6, 6]


def test_it_goes_on_where_it_was_stopped(folder, tmp_path):
    """Metrics are written anew, since the run ended before it wrote those of its last round."""

    def stop(record):
        if record["round"] == 1:
            folder.path.joinpath("metrics.jsonl").write_text('{"round": 0')
            raise Stop

    observer = RunObserver()
    observer.on_round_committed = stop
    with pytest.raises(Stop):
        serve(folder, observer=observer)
    serve(folder)
    undisturbed = made(tmp_path / "other")
    serve(undisturbed)
    assert hashes(verify_journal(folder.journal)) == hashes(verify_journal(undisturbed.journal))
    assert metrics(folder) == [entry["metrics"] for entry in verify_journal(folder.journal)]


@pytest.mark.parametrize(
    ("base", "published"),
    [
        ({"path": "/home/operator/models/clinical-bert"}, "clinical-bert"),
        ({"path": "package:models/clinical-bert/"}, "clinical-bert"),
        ({"path": "/home/operator/models/clinical-bert", "name": "org/clinical-bert"}, "org/clinical-bert"),
    ],
)
def test_found_A3_the_published_adapter_names_the_base_and_no_folder_of_the_operator(tmp_path, base, published):
    folder = made(tmp_path / "run", parse_settings(Recipe, with_keys(base=base), "recipe"))
    serve(folder)
    config = (folder.adapter / "adapter_config.json").read_text()
    assert json.loads(config)["base_model_name_or_path"] == published
    assert "operator" not in config


def test_found_A3_another_name_for_the_base_does_not_change_what_a_run_has_published(folder):
    serve(folder)
    before = folder_bytes(folder.adapter)
    tables = to_tables(RECIPE)
    folder.write_settings(tables | {"base": tables["base"] | {"name": "org/other"}})
    (folder.adapter / "adapter_config.json").unlink()
    serve(folder)
    assert folder_bytes(folder.adapter) == before
