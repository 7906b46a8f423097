"""`fedlora plan`, and a run with the same budget: the same ranks, also after a kill, and errors that say what works."""

import json

import pytest

from common.errors import FedloraError
from common.planning.ranks import trained_parameters
from server.verify import verify_run
from simulations.plan import make_plan
from simulations.recipe import read_recipe
from simulations.results.nodes import load_nodes
from simulations.starting.plan import plan_recipe
from tests.helpers.end_to_end.command import TINY, call, end, settings, start
from tests.helpers.simulations.runs import BRIEF, entries, hashes, records, run_tiny, wait_for_line

BUDGET = "lora.budget=1%", "lora.targets=all-linear"


def planned(assignments):
    recipe = read_recipe(TINY, list(assignments))
    nodes = load_nodes(recipe, 0)
    return make_plan(recipe, nodes.model, nodes.nodes)


@pytest.mark.parametrize("more", [(), ("server.algorithm=fedsgd",), ("base.path=tiny:gpt2",)])
def test_a_run_agrees_on_what_plan_shows(tmp_path, more):
    run = run_tiny(tmp_path, *BRIEF, *BUDGET, "server.keep_updates=all", *more)
    nodes = load_nodes(read_recipe(TINY, [*BRIEF, *BUDGET, *more]), 0)
    plan = make_plan(read_recipe(TINY, [*BRIEF, *BUDGET, *more]), nodes.model, nodes.nodes)
    assert plan.told() == records(run)[0]["plan"]
    assert 0 < plan.parameters == trained_parameters(plan.ranks, nodes.model.shapes) <= plan.budget
    told = "\n".join(verify_run(run))
    assert "given again by the sums of energies: the same" in told
    assert "recomputed: same bits" in told
    adapter = json.loads((run / "adapter" / "adapter_config.json").read_text())
    trained = {name for name, rank in plan.ranks.items() if rank}
    assert trained <= set(adapter["target_modules"])
    assert not (plan.ranks.keys() - trained) & set(adapter["target_modules"])


def test_a_killed_run_keeps_its_ranks_and_ends_with_the_same_bits(tmp_path):
    chosen = settings(*BRIEF, *BUDGET, "train.rounds=3")
    whole = call("simulate", TINY, "--out", tmp_path, "--name", "whole", *chosen)
    assert whole.status == 0
    process, run = start("simulate", TINY, "--out", tmp_path, "--name", "run", *chosen), tmp_path / "run"
    wait_for_line(process, run / "journal/log.jsonl", 1)
    process.kill()
    end(process)
    assert call("simulate", TINY, "--resume", run, *chosen).status == 0
    assert hashes(run) == hashes(tmp_path / "whole")
    assert records(run)[0]["plan"] == records(tmp_path / "whole")[0]["plan"]


def test_the_page_names_modules_ranks_and_the_command_that_trains():
    ended = call("plan", TINY, "--budget", "1%", "--set", "clients.ranks=[2]")
    assert ended.status == 0
    assert "bert.pooler.dense" in ended.out
    assert "1% of a base of 51,072 parameters allows 510" in ended.out
    assert "at ranks of 2 at most, by the gradients of 4 clients" in ended.out
    assert ended.out.rstrip().endswith("--set 'clients.ranks=[2]' --set lora.budget=1% --set lora.targets=all-linear")


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ((), ("pooler", "self.key", "self.query")),
        (("--set", "lora.targets=query-value"), ("self.query",)),
        (("--set", "lora.targets=query-value", "--targets", '["key"]'), ("self.key",)),
    ],
)
def test_the_targets_that_are_planned_are_those_that_are_set_or_all(chosen, named):
    page = call("plan", TINY, "--budget", "1%", *chosen).out
    assert tuple(each for each in ("pooler", "self.key", "self.query") if each in page) == named


def test_a_run_that_begins_at_an_adapter_agrees_on_what_plan_shows(tmp_path):
    begun = run_tiny(tmp_path / "first", *BRIEF, "lora.targets=all-linear") / "adapter"
    own = [*BRIEF, *BUDGET, f"base.adapter={begun}"]
    run = run_tiny(tmp_path, *own)
    plan = planned(own)
    assert plan.told() == records(run)[0]["plan"]
    assert plan.energies == entries(run)[0]["plan"]["energies"]
    assert plan.energies != planned([*BRIEF, *BUDGET]).energies  # control


@pytest.mark.parametrize(
    ("budget", "targets", "more", "message"),
    [
        ("0", None, (), r"\[lora\] budget = 0: write \"0\.1%\" of the base"),
        ("-5", None, (), r"\[lora\] budget = -5: write"),
        ("0.5", None, (), r"\[lora\] budget = 0.5: write"),
        ("true", None, (), r"\[lora\] budget = True: write"),
        ("[1]", None, (), r"\[lora\] budget = \[1\]: write"),
        ("9" * 19, None, (), r"\[lora\] budget = 9+: write"),
        (None, None, (), r"has no \[lora\] budget; give one, for example --budget 0\.1%"),
        ("0.001%", None, (), "budget = '0.001%': 0 parameters are below one rank of the smallest module, which has 64"),
        ("3 B", None, (), "budget = '3 B': 0 parameters are below one rank"),
        ("", None, (), r"\[lora\] budget = ''"),
        ("9" * 400, None, (), r"no budget|write \"0\.1%\""),
        (f"{'9' * 400} GB", None, (), r"write \"0\.1%\""),
        ("much", None, (), r"\[lora\] budget = 'much': write \"0\.1%\""),
        ("1%", "nothing", (), "nothing"),
        ("1%", None, ("lora.zzz=1",), r"unknown key \[lora\] zzz"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_what_would_work(budget, targets, more, message):
    with pytest.raises(FedloraError, match=message):
        plan_recipe(TINY, budget, targets, list(more))


def test_a_run_with_too_small_a_budget_is_refused_before_its_folder_is_made(tmp_path):
    ended = call("simulate", TINY, "--set", "lora.budget=0.001%", "--out", tmp_path / "runs")
    assert (ended.status, (tmp_path / "runs").exists()) == (2, False)
    assert "below one rank" in ended.err
