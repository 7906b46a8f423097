"""Pooled training beside a run: one client with all rows, in a folder of the run that is a run itself."""

import json
import shutil
import signal
from dataclasses import replace

import pytest

from simulations.pooled import pool
from simulations.recipe import read_recipe
from tests.helpers.end_to_end.command import TINY, call, end, refusal, settings, start
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.runs import BRIEF, entries, hashes, records, run_tiny, same_result, wait_for_line

LINE = "pooled training"
SHORT = (*BRIEF, "train.rounds=4", "server.keep_updates=all")


def simulate(out, *words, recipe=TINY, brief=SHORT):
    return call("simulate", recipe, "--out", out, "--name", "run", *words, *settings(*brief))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run with pooled training; no test changes it."""
    out = tmp_path_factory.mktemp("pooled")
    ended = simulate(out, "--pooled")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[-1] == f"run: {out / 'run'}"
    return out / "run"


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


# --- what it trains ---


def test_one_client_holds_all_rows_and_computes_as_much_as_all(run):
    for apart, together in zip(records(run)[1:], records(run / "pooled")[1:], strict=True):
        (one,) = together["clients"]
        assert (one["rank"], one["status"]) == (8, "ok")
        assert one["rows"] == pytest.approx(sum(client["rows"] for client in apart["clients"]), abs=4)
        assert one["examples"] == pytest.approx(sum(client["examples"] for client in apart["clients"]), rel=0.1)


def test_it_begins_with_the_same_model_and_is_tested_on_the_same_rows(run):
    assert (run / "pooled" / "test.jsonl").read_bytes() == (run / "test.jsonl").read_bytes()
    first, other = records(run / "pooled")[0], records(run)[0]
    assert (first["test_loss"], first["test_accuracy"]) == (other["test_loss"], other["test_accuracy"])
    assert entries(run / "pooled")[0]["base"] == entries(run)[0]["base"]


def test_its_folder_is_a_run(run):
    verified = call("verify", run / "pooled")
    assert verified.status == 0
    assert verified.out.startswith("intact: rounds 0 to 4")
    assert "recomputed" in verified.out
    assert json.loads(call("evaluate", run / "pooled").out)["count"] == 20


def test_the_run_beside_it_is_that_without_it(run, tmp_path):
    alone = run_tiny(tmp_path, *SHORT)
    assert same_result(run, alone)
    assert LINE in read_page(run / "report.html").text
    assert LINE not in read_page(alone / "report.html").text  # control


def recipe_with(*assignments):
    return read_recipe(TINY, list(assignments))


@pytest.mark.parametrize(("cohort", "times"), [(None, 4), (3, 3), (9, 4)])
def test_its_batches_are_those_of_a_round(cohort, times):
    recipe = recipe_with()
    recipe = replace(recipe, server=replace(recipe.server, cohort=cohort))
    assert pool(recipe, 4).train == replace(recipe.train, steps=times * recipe.train.steps)


@pytest.mark.parametrize(
    ("assignments", "algorithm", "rank"),
    [
        (("server.algorithm=hetlora", "server.proximal=0.1"), "increments", 8),
        (("server.algorithm=fedlin", "server.mode=b", "server.weights=norm"), "increments", 8),
        (("server.algorithm=fedsgd", "server.optimizer=sgd"), "fedsgd", 8),
        (("server.algorithm=fedsgd", "server.rank_shared=12"), "fedsgd", 12),
    ],
)
def test_gradients_stay_gradients_and_every_other_rule_becomes_plain_training(assignments, algorithm, rank):
    recipe = recipe_with(*assignments)
    pooled = pool(recipe, 4)
    assert (pooled.server.algorithm, pooled.clients.ranks) == (algorithm, (rank,))
    assert (pooled.server.mode, pooled.server.optimizer) == (recipe.server.mode, recipe.server.optimizer)
    assert (pooled.server.proximal, pooled.server.weights) == (0.0, None)


@pytest.mark.parametrize(
    "assignments",
    [
        ("server.algorithm=fedsgd",),
        ("data.task=causal-lm", "base.path=tiny:llama", "clients.partition=column", "clients.column=label"),
        ("server.algorithm=fedit", "clients.ranks=[4]", "data.test_rows=0"),
    ],
    ids=["gradients", "language model by owner", "no test rows"],
)
def test_other_recipes(assignments, tmp_path):
    ended = simulate(tmp_path, "--pooled", brief=(*BRIEF, "train.rounds=1", *assignments))
    assert ended.status == 0, ended.err
    page = read_page(tmp_path / "run" / "report.html")
    assert LINE in page.text
    assert page.misnested == []
    assert call("verify", tmp_path / "run" / "pooled").status == 0


# --- resumed ---


def test_it_can_be_trained_after_the_run(run, tmp_path):
    later = run_tiny(tmp_path, *SHORT)
    assert simulate(tmp_path, "--resume", later, "--pooled").status == 0
    assert same_result(later / "pooled", run / "pooled")
    assert LINE in read_page(later / "report.html").text


@pytest.mark.slow
def test_interrupted_it_names_the_command_that_goes_on_to_the_same_bits(run, tmp_path):
    begun, committed = interrupted(tmp_path)
    assert 1 <= len(committed) < 5
    assert simulate(tmp_path, "--resume", begun, "--pooled").status == 0
    assert hashes(begun / "pooled")[: len(committed)] == committed
    assert same_result(begun / "pooled", run / "pooled")


def interrupted(out):
    """Return a run that ended amid pooled training, and what that had committed; a fast one may end before."""
    for attempt in range(10):
        begun = out / str(attempt) / "run"
        process = start("simulate", TINY, "--pooled", "--out", begun.parent, "--name", "run", *settings(*SHORT))
        wait_for_line(process, begun / "pooled" / "metrics.jsonl", 1)
        process.send_signal(signal.SIGTERM)
        if (ended := end(process)).status:
            assert f"--resume {begun}" in ended.err
            assert "--pooled" in ended.err
            return begun, hashes(begun / "pooled")
    pytest.fail("every run had ended before it was interrupted")


# --- bad input ---


def test_prepare_does_not_train(tmp_path):
    ended = simulate(tmp_path, "--prepare", "--pooled")
    assert ended.status == 2
    assert "--prepare only writes" in " ".join(ended.err.split())
    assert not (tmp_path / "run").exists()


def test_pooled_training_that_began_otherwise_is_named_with_the_key(copy, tmp_path):
    config = copy / "pooled" / "config.toml"
    config.write_text(config.read_text().replace("steps = 12", "steps = 11"))
    message = refusal(simulate(tmp_path, "--resume", copy, "--pooled"))
    assert f"{copy / 'pooled'} was started with other settings" in message
    assert "train.steps: the run has 11, this recipe 12" in message


def test_records_of_it_that_cannot_be_read_are_named(copy, tmp_path):
    metrics = copy / "pooled" / "metrics.jsonl"
    metrics.write_text("nonsense\n")
    ended = simulate(tmp_path, "--resume", copy)
    assert ended.status != 0
    assert f"{metrics}:1 is not JSON" in ended.err


def test_a_file_in_its_place_is_named(tmp_path):
    alone = run_tiny(tmp_path, *SHORT)
    (alone / "pooled").write_text("mine")
    ended = simulate(tmp_path, "--resume", alone, "--pooled")
    assert ended.status != 0
    assert str(alone / "pooled") in ended.err
    assert "Traceback" not in ended.err
    assert (alone / "pooled").read_text() == "mine"
