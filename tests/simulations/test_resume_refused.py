import shutil

import pytest
from safetensors.numpy import load_file, save_file

from simulations.tiny_base import tiny_base
from tests.helpers.end_to_end.command import TINY, call, end, refusal, settings, start
from tests.helpers.simulations.runs import BRIEF, run_tiny, wait_for_line


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("run"), *BRIEF)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("train.lr=0.02", "train.lr: the run has 0.01, this recipe 0.02"),
        ("train.rounds=9", "train.rounds: the run has 2, this recipe 9"),
        ("clients.ranks=[1, 2, 4, 9]", "clients.ranks"),
        ("server.cohort=2", "server.cohort: the run has None, this recipe 2"),
        ("base.path=tiny:roberta", "base.path"),
        ("base.path=/no/such/base", "base.path"),
        ("seed=5", "seed: the run has 1, this recipe 5"),
    ],
)
def test_a_run_goes_on_with_its_own_recipe_alone(run, assignment, said):
    before = contents(run)
    message = refusal(call("simulate", TINY, "--resume", run, *settings(*BRIEF, assignment)))
    assert said in message
    assert "use the same settings, or start a new run" in message
    assert contents(run) == before


def test_a_setting_that_is_not_typed_again_is_the_runs_own(run):
    before = contents(run / "journal")
    assert (
        call("simulate", TINY, "--resume", run, *settings("train.rounds=2", "train.steps=3", "train.lr=1e-2")).status
        == 2
    )
    assert call("simulate", write_least(run.parent), "--resume", run).status == 0
    assert contents(run / "journal") == before


def write_least(folder):
    """Write a recipe that sets only the required keys."""
    file = folder / "least.toml"
    file.write_text("")
    return file


def test_rows_from_elsewhere_are_named_as_a_change(run, tmp_path):
    message = refusal(call("simulate", TINY, "--resume", run, *settings(*BRIEF, f"data.path={tmp_path / 'rows.csv'}")))
    assert f"data.path: the run has None, this recipe {tmp_path / 'rows.csv'}" in message


def test_a_misspelt_key_is_named_with_the_file_it_is_in(run):
    message = refusal(call("simulate", TINY, "--resume", run, *settings(*BRIEF, "train.stepz=3")))
    assert f"{TINY}: unknown key [train] stepz; did you mean 'steps'" in message


def test_a_run_goes_on_with_its_own_weights_alone(tmp_path):
    base = shutil.copytree(tiny_base("bert"), tmp_path / "base")
    own = settings(*BRIEF, f"base.path={base}")
    assert call("simulate", TINY, "--out", tmp_path, "--name", "run", *own).status == 0
    before = contents(tmp_path / "run" / "journal")
    tensors = load_file(base / "model.safetensors")
    first = min(tensors)
    save_file(tensors | {first: tensors[first] + 1}, base / "model.safetensors", metadata={"format": "pt"})
    message = refusal(end(start("simulate", TINY, "--resume", tmp_path / "run", *own)))
    assert "fingerprint" in message
    assert contents(tmp_path / "run" / "journal") == before


def test_a_changed_journal_is_refused(tmp_path, run):
    copy = shutil.copytree(run, tmp_path / "copy")
    log = copy / "journal" / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"round":1', b'"round":7', 1))
    message = refusal(call("simulate", TINY, "--resume", copy, *settings(*BRIEF)))
    assert str(log) in message
    assert "line" in message


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_is_no_run_cannot_go_on(tmp_path, made):
    folder = tmp_path / "folder"
    if made:
        folder.mkdir()
    message = refusal(call("simulate", TINY, "--resume", folder))
    assert f"{folder} is not a run" in message
    assert not made or list(folder.iterdir()) == []


def test_two_processes_cannot_write_one_run(tmp_path):
    long = settings("train.steps=20000")
    first = start("simulate", TINY, "--out", tmp_path, "--name", "run", *long)
    try:
        wait_for_line(first, tmp_path / "run" / "metrics.jsonl", 1)
        message = refusal(call("simulate", TINY, "--resume", tmp_path / "run", *long))
    finally:
        first.kill()
        end(first)
    assert "in use by another process" in message
