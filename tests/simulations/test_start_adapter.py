"""A simulation that begins at an adapter: its round 0 is that adapter, which the run knows by its content."""

import json
import re
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model

import server.verify
from client.finished.run import evaluate_run
from common.adapters.adapter import Adapter, Factors
from common.huggingface.start_adapter import fit_start
from tests.helpers.common.models import load
from tests.helpers.end_to_end.command import TINY, call, refusal, settings
from tests.helpers.simulations.runs import hashes, records, run_tiny

SAME = ("clients.ranks=[4, 8]", "train.rounds=1", "train.steps=1", "data.test_rows=40", "workers=1")
LM = ("base.path=tiny:llama", "data.task=causal-lm", "clients.partition=iid")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Return a run that has learned something."""
    folder = tmp_path_factory.mktemp("first")
    return run_tiny(folder, "clients.ranks=[4, 8]", "train.rounds=2", "train.steps=30", "data.test_rows=40")


@pytest.fixture(scope="module")
def second(first):
    """Return a run that begins at the first one's adapter, and keeps its updates."""
    return begin(first.parent, "second", first / "adapter", "server.keep_updates=all")


def begin(folder, name, adapter, *more):
    return run_tiny(folder, *SAME, f"base.adapter={adapter}", *more, name=name)


def resume(run, *more):
    return call("simulate", TINY, "--resume", run, *settings(*SAME, *more))


def test_round_0_is_the_adapter_with_its_head(first, second):
    own, begun = evaluate_run(first), records(second)[0]
    assert begun["test_loss"] == pytest.approx(own.loss, rel=1e-5)
    assert begun["test_accuracy"] == own.score
    assert abs(records(first)[0]["test_loss"] - own.loss) > 0.01  # control: it has learned, the head included
    assert (begun["dropped"], begun["aggregation_error"]) == (0.0, None)
    assert 0 < begun["residual"] < 1e-6 or begun["residual"] == 0


def test_what_is_verified_is_also_where_it_began(second, first, tmp_path):
    ended = call("verify", second)
    assert f"round 0 begins at the adapter in {first / 'adapter'}: same bits" in ended.out
    assert "round 1 recomputed: same bits" in ended.out
    copy, config = shutil.copytree(second, tmp_path / "copy"), tmp_path / "copy" / "config.toml"
    config.write_text(config.read_text().replace(str(first / "adapter"), str(tmp_path / "gone")))
    assert "round 0 checked by the log alone: its adapter" in call("verify", copy).out


@pytest.mark.parametrize(
    ("moved", "said"),
    [(1e-8, "round 0 begins at the run's adapter: within "), (1e-3, "(round 0) does not begin at the run's adapter")],
)
def test_a_round_0_of_something_else_is_found(moved, said, second, monkeypatch):
    """As if this build, or an honest one, began with other bits than the log has."""

    def fitted(*arguments):
        start = fit_start(*arguments).astype("f8")
        return Adapter({name: Factors(f.a * (1 + moved), f.b) for name, f in start.items()})

    monkeypatch.setattr(server.verify, "fit_start", fitted)
    ended = call("verify", second)
    assert said in (ended.out if moved < 1e-6 else refusal(ended))


def test_a_run_resumes_with_a_moved_adapter_without_it_and_with_no_other(first, second, tmp_path):
    run, moved = shutil.copytree(second, tmp_path / "run"), shutil.copytree(first / "adapter", tmp_path / "moved")
    before = hashes(run)
    assert resume(run, f"base.adapter={moved}").status == 0
    assert resume(run, f"base.adapter={tmp_path / 'gone'}").status == 0
    assert resume(run).status == 0
    other = begin(tmp_path, "other", moved) / "adapter"
    said = refusal(resume(run, f"base.adapter={other}"))
    assert f"[base] adapter = '{other}' has content of SHA-256" in said
    assert "give the adapter that the run began with" in said
    assert hashes(run) == before


def test_a_run_that_began_at_zero_takes_no_adapter_later(first, tmp_path):
    run = run_tiny(tmp_path, *SAME)
    assert "the run began without one" in refusal(resume(run, f"base.adapter={first / 'adapter'}"))
    assert "adapter_hash" not in (run / "config.toml").read_text()


def test_what_rank_global_leaves_out_is_said(first, tmp_path, capsys):
    run = begin(tmp_path, "cut", first / "adapter", "server.rank_global=2")
    said = capsys.readouterr().out
    assert "the run begins at its adapter but for" in said
    assert "a broadcast of rank 2 leaves that out (rank_global, wire)" in said
    assert records(run)[0]["residual"] > 1e-3
    begin(tmp_path, "whole", first / "adapter")
    assert "begins at its adapter" not in capsys.readouterr().out  # control


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("server.algorithm=hetlora", "clients.ranks=[1, 2]"), '[base] adapter has rank .*algorithm = "hetlora"'),
        (("base.path=tiny:roberta",), "does not fit the run: it states the base model"),
        (('lora.targets=["query"]',), "does not fit the run: .*value is no LoRA target of the run"),
        (("base.adapter=/nowhere",), "cannot read /nowhere/adapter_config.json"),
        (("base.adapter_hash=12ab",), "has content of SHA-256 .*, but adapter_hash, which a run keeps, is 12ab"),
    ],
)
def test_what_cannot_be_a_start_is_refused_before_anything_is_written(more, said, first, tmp_path):
    own = settings(*SAME, f"base.adapter={first / 'adapter'}", *more)
    message = refusal(call("simulate", TINY, "--out", tmp_path, "--name", "run", *own))
    assert re.search(said.replace("[base]", r"\[base\]"), message), message
    assert not (tmp_path / "run").exists()


FOREIGN = {
    "ranks and scales by module": {
        "rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 3},
        "alpha_pattern": {"0.self_attn.v_proj": 9},
        "lora_alpha": 6,
    },
    "rsLoRA": {"lora_alpha": 12, "use_rslora": True},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_an_adapter_that_peft_made_is_evaluated_as_peft_does(name, tmp_path):
    """Round 0 of a run at PEFT's adapter, and of one at the base into which PEFT merged it, have one loss."""
    base = load("llama", "causal-lm")
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **FOREIGN[name])
    model = get_peft_model(base.skeleton().model, config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(key))) / 4)
    model.save_pretrained(tmp_path / "adapter")
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    base.tokenizer.save_pretrained(tmp_path / "merged")
    own = [*SAME, *LM]
    at = run_tiny(tmp_path, *own, f"base.adapter={tmp_path / 'adapter'}", name="at")
    into = run_tiny(tmp_path, *own, f"base.path={tmp_path / 'merged'}", name="into")
    plain = run_tiny(tmp_path, *own, name="plain")
    one, two, three = (records(run)[0]["test_loss"] for run in (at, into, plain))
    assert one == pytest.approx(two, rel=1e-5)
    assert abs(one - three) > 1e-3  # control
    assert json.loads((at / "adapter" / "adapter_config.json").read_text())["r"]
