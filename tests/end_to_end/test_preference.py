"""Preference training from recipe to exported adapter: a simulation, and processes of their own over mutual TLS."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import client.app
from client.data.tokens import IGNORE
from client.finished.run import load_run, load_test_rows
from client.objectives.examples import eval_batches
from common.errors import printable
from server.app import make_app
from simulations.corpora.corpus import to_jsonl
from simulations.corpora.toy_preference import load
from simulations.grid import InProcessGrid
from simulations.simulate import simulate
from simulations.tiny_base import tiny_base
from tests.helpers.end_to_end.command import ROOT, call, refusal, settings
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.simulations.runs import hashes, records, run_tiny

RECIPE = ROOT / "simulations" / "recipes" / "preference.toml"
PAIRS = ("data.corpus=toy-preference", "data.task=preference", "data.max_length=64")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("run"), recipe=RECIPE)


def test_the_loss_falls_and_the_accuracy_rises_from_chance(run):
    first, last = records(run)[0], records(run)[-1]
    assert (first["test_loss"], first["test_accuracy"]) == (pytest.approx(0.6931472), 0.5)
    assert last["test_loss"] < 0.62
    assert last["test_accuracy"] > 0.75
    assert last["aggregation_error"] < 1e-6


def test_examples_and_tokens_are_pairs(run):
    clients = records(run)[-1]["clients"]
    assert sum(client["rows"] for client in clients) == 320
    assert all(0 < client["examples"] == client["tokens"] <= 25 * 16 for client in clients)


@pytest.mark.parametrize(("algorithm", "ranks"), [("fedit", [8]), ("hetlora", [4, 8])])
def test_other_rules_train_it_too(tmp_path, algorithm, ranks):
    words = (f"server.algorithm={algorithm}", f"clients.ranks={ranks}", "train.rounds=2")
    assert records(run_tiny(tmp_path, *words, recipe=RECIPE))[-1]["test_loss"] < 0.66


@pytest.mark.parametrize(("beta", "reason"), [(0.5, "base"), (0.1, None)])
def test_a_node_with_another_beta_is_refused(tmp_path, beta, reason):
    words = ["train.rounds=1", "train.steps=2", "data.test_rows=0"]
    folder = simulate(RECIPE, words, "run", tmp_path, None, prepare_only=True)
    files = sorted((folder / "nodes").glob("*.toml"))
    files[-1].write_text(files[-1].read_text().replace("beta = 0.1", f"beta = {beta}"))
    with InProcessGrid(client.app.app, files, workers=1, threads=1) as grid:
        grid.serve(make_app(), folder)
    reasons = {node["name"]: node["reason"] for record in records(folder) for node in record["clients"]}
    assert reasons == dict.fromkeys(("client-00", "client-01", "client-02")) | {"client-03": reason}


def test_evaluate_gives_the_runs_last_numbers(run):
    measured, last = json.loads(call("evaluate", run).out), records(run)[-1]
    assert measured["test_loss"] == pytest.approx(last["test_loss"], abs=1e-5)
    assert (measured["test_accuracy"], measured["count"]) == (last["test_accuracy"], 80)


@torch.no_grad()
def log_probabilities(model, batch):
    """Return the log-probability of each answer, (n, 2), by a model of Transformers or PEFT."""
    ids, mask, targets = (t.flatten(0, 1) for t in (batch.input_ids, batch.attention_mask, batch.targets))
    each = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    learned = targets[:, 1:] != IGNORE
    return (each.gather(-1, ids[:, 1:, None])[..., 0] * learned).sum(-1).view(-1, 2)


def test_an_exported_adapter_prefers_what_the_run_prefers(run, tmp_path):
    assert call("export", run, tmp_path / "out").status == 0
    rows = load_test_rows(run)[1]
    (batch,) = eval_batches(rows, len(rows))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base("llama")), tmp_path / "out").eval()
    trained = log_probabilities(model, batch)
    with model.disable_adapter():
        gained = trained - log_probabilities(model, batch)
    margin = gained[:, 0] - gained[:, 1]
    last = records(run)[-1]
    assert (margin > 0).float().mean().item() == pytest.approx(last["test_accuracy"])
    assert -torch.nn.functional.logsigmoid(0.1 * margin).mean().item() == pytest.approx(last["test_loss"], abs=1e-4)


def test_a_merged_model_and_generated_text_are_the_runs(run, tmp_path):
    assert call("merge", run, tmp_path / "merged").status == 0
    prompt = "a cow by the old barn is seen at the"
    ended = call("generate", run, "--prompt", prompt, "--tokens", 6)
    assert ended.status == 0, ended
    given = load_run(run).base.tokenizer(prompt, return_tensors="pt")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    out = merged.generate(**given, max_new_tokens=6, do_sample=False)[0, given["input_ids"].shape[1] :]
    text = load_run(run).base.tokenizer.decode(out, skip_special_tokens=True)
    assert ended.out.strip() == printable(text, "\n\t").strip()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda row: {key: row[key] for key in ("prompt", "chosen")}, "line 2: 'rejected' is empty"),
        (lambda row: row | {"chosen": " "}, "line 2: 'chosen' is blank"),
        (lambda row: row | {"prompt": None}, "line 2: 'prompt' is empty"),
    ],
)
def test_a_row_without_one_of_its_columns_ends_the_command(tmp_path, spoil, said):
    rows = list(load().rows)
    (tmp_path / "pairs.jsonl").write_bytes(to_jsonl([rows[0], spoil(rows[1]), *rows[2:]]))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.read_text().replace('corpus = "toy-preference"', 'path = "pairs.jsonl"'))
    assert f"pairs.jsonl, {said}" in refusal(call("simulate", recipe, "--out", tmp_path))


def test_rows_of_another_task_are_told_with_the_key_to_set(tmp_path):
    message = refusal(call("simulate", RECIPE, "--out", tmp_path, *settings("data.corpus=toy")))
    assert "no 'chosen'" in message
    assert 'set chosen = "COLUMN" (in a recipe: [data] chosen)' in message
    assert "[data] beta = 0: " in refusal(call("simulate", RECIPE, "--out", tmp_path, *settings("data.beta=0")))


@pytest.mark.slow
def test_a_server_and_three_nodes_train_preferences_and_refuse_another_beta(tmp_path):
    project = Project(tmp_path, *PAIRS, "base.path=tiny:llama", "clients.partition=iid", "train.rounds=3")
    project.admit("other-beta", 16)
    *ours, other = project.whole_run(project.node_file("other-beta", beta=0.5))
    assert [ended.status for ended in ours] == [0] * 4, ours
    # Where it loads for longer than the run takes, it is not asked any more.
    assert other.status == (2 if "its operator's base.toml" in other.err else 0), other
    nodes = [{node["name"]: node for node in record["clients"]} for record in records(project.run)]
    assert {name: nodes[-1][name]["rank"] for name in NODES} == NODES
    assert {node["reason"] for record in nodes for name, node in record.items() if name == "other-beta"} <= {"base"}
    assert all(nodes[-1][name]["loss_after"] < nodes[0][name]["loss_after"] - 0.02 for name in NODES)
    files = [project.shards / "nodes" / f"{name}.toml" for name in NODES]
    with InProcessGrid(client.app.app, files, workers=2, threads=1) as grid:
        grid.serve(make_app(), project.shards)
    assert hashes(project.run) == hashes(project.shards)
