"""What becomes of a run on a base in 4 or 8 bits: PEFT's logits, a merge, evaluation, text."""

import json
import re
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer

from client.exporting import export as exporting
from client.exporting.export import export
from client.exporting.request import MAX_GAP, Request, check_request
from client.finished import merge as merging
from client.finished.merge import Gap, merge_into_base
from client.finished.run import evaluate_run, load_run
from client.finished.text import generate
from client.model.quantised import as_numbers, kind_of, quantised_modules, to_evaluation
from common.errors import ConfigError, ModelError
from tests.helpers.client.exporting import exported
from tests.helpers.client.nodes import PLACES
from tests.helpers.client.outputs import _read as read
from tests.helpers.client.outputs import _rows as rows_of
from tests.helpers.client.outputs import gap, run_logits
from tests.helpers.client.quantised import KINDS, TASKS, transformers_load, weights_hash, wide_base
from tests.helpers.common.models import AUTO_MODEL
from tests.helpers.end_to_end.command import call, refusal
from tests.helpers.simulations.runs import records

pytestmark = pytest.mark.usefixtures("float32")
RUNS = [(base, kind) for base in TASKS for kind in KINDS]
SKIPPED = {"llama": ["lm_head"], "gpt2": ["lm_head"], "bert": ["classifier"]}


@torch.no_grad()
def logits_of(model, run):
    """Return a model's logits on the run's test rows, its 8-bit layers in the mode that a run has."""
    to_evaluation(model)
    batch = rows_of(run)
    return read(model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits, run)


def quantised_by_transformers(base, kind):
    classes = {"num_labels": len(PLACES)} if base == "bert" else {}
    return transformers_load(wide_base(base), TASKS[base], kind, SKIPPED[base], **classes)


@pytest.mark.parametrize(("base", "kind"), RUNS)
def test_a_run_learns_and_the_same_weights_are_there_afterwards(quantised_run, base, kind):
    run = quantised_run(base, kind)
    losses = [record["test_loss"] for record in records(run)]
    assert losses[-1] < losses[0]
    model = load_run(run).base.model
    assert kind_of(model) == kind
    before = weights_hash(model)
    score = evaluate_run(run)
    assert score.loss == pytest.approx(losses[-1], abs=1e-5)
    if TASKS[base] == "causal-lm":
        assert isinstance(generate(run, "a cow", 4), str)
    assert weights_hash(model) == before == weights_hash(quantised_by_transformers_settled(base, kind))


def quantised_by_transformers_settled(base, kind):
    model = quantised_by_transformers(base, kind)
    for layer in quantised_modules(model).values():
        if kind == "int8":
            layer.init_8bit_state()
    return model


@pytest.mark.parametrize(("base", "kind"), RUNS)
def test_peft_gives_the_logits_of_the_run_over_the_same_quantised_load(quantised_run, tmp_path, base, kind):
    run = quantised_run(base, kind)
    exported(run, tmp_path / "out")
    model = PeftModel.from_pretrained(quantised_by_transformers(base, kind), tmp_path / "out")
    assert "bnb" in {type(each).__module__.rpartition(".")[2] for each in model.modules()}
    expected = run_logits(run)
    assert gap(logits_of(model, run), expected) < 1e-4
    with model.disable_adapter():
        assert gap(logits_of(model, run), expected) > 1e-2  # control


@pytest.mark.parametrize(("base", "kind"), RUNS)
def test_a_merged_folder_has_the_weights_that_the_run_computed_with(quantised_run, tmp_path, base, kind):
    run = quantised_run(base, kind)
    apart = merge_into_base(run, load_run(run), tmp_path / "out", torch.float32)
    assert 0 < apart.mean < apart.largest < 1e-4
    assert apart.share < MAX_GAP / 100
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    model = AUTO_MODEL[TASKS[base]].from_pretrained(tmp_path / "out")
    AutoTokenizer.from_pretrained(tmp_path / "out")
    assert kind_of(model) is None
    assert gap(logits_of(model, run), run_logits(run)) < 1e-4
    trained = load_run(run)
    for name, layer in quantised_modules(trained.base.model).items():
        factors, weight = trained.adapter[name], model.get_submodule(name).weight
        change = torch.from_numpy(factors.b @ factors.a)
        expected = as_numbers(layer).weight + (change.t() if base == "gpt2" else change)
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("base", TASKS)
def test_a_merge_into_the_weights_from_before_is_another_model_and_refused(quantised_run, tmp_path, monkeypatch, base):
    """The default bound lies between the two."""
    run = quantised_run(base, "nf4")
    monkeypatch.setattr(merging, "quantised_modules", lambda model: {})
    with pytest.raises(ModelError, match=r"logit gap to base \+ adapter: .* above --max-gap 0.05; nothing is"):
        export(run, tmp_path / "out", Request(form="merged"))
    assert not (tmp_path / "out").exists()
    export(run, tmp_path / "out", Request(form="merged", max_gap=10.0))


def test_the_command_reports_the_gap_and_refuses_one_above_a_bound(quantised_run, tmp_path):
    run = quantised_run("llama", "nf4")
    told = refusal(call("merge", run, tmp_path / "out", "--dtype", "bfloat16", "--max-gap", "1e-6"))
    words = r"logit gap to base \+ adapter: \S+, mean \S+, which is \d+\.\d% of the standard deviation of the logits, "
    assert re.search(words + r"above --max-gap 1e-06; nothing is written", " ".join(told.split()))
    assert [*tmp_path.iterdir()] == []
    ended = call("merge", run, tmp_path / "out", "--dtype", "bfloat16")
    first, second, _ = ended.out.splitlines()
    assert re.fullmatch(r"bfloat16; largest logit gap to base \+ adapter: \S+, mean \S+", first)
    assert second == "layers held in nf4 are written with the weights that the run computed with"
    assert {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bound_is_a_positive_number_and_of_a_merge(bound):
    with pytest.raises(ConfigError, match=r"--max-gap \S+ is no positive number; leave it out for 0.05"):
        check_request(Request(form="merged", max_gap=bound))
    with pytest.raises(ConfigError, match=r"--max-gap 0.2 is for --format merged"):
        check_request(Request(form="peft", max_gap=0.2))


def test_a_gap_that_is_no_number_is_refused(quantised_run, tmp_path, monkeypatch):
    spoilt = Gap(float("nan"), float("nan"), 1.0)
    monkeypatch.setattr(exporting, "merge_into_base", lambda run, trained, out, dtype: spoilt)
    with pytest.raises(ModelError, match="mean nan"):
        export(quantised_run("bert", "nf4"), tmp_path / "out", Request(form="merged"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_a_stored_quantised_checkpoint_merges_too(quantised_run, tmp_path, kind):
    quantised_by_transformers("llama", kind).save_pretrained(tmp_path / "base")
    for file in wide_base("llama").glob("*token*"):
        shutil.copy(file, tmp_path / "base")
    run = shutil.copytree(quantised_run("llama", kind), tmp_path / "run")
    file = run / "test.toml"
    text = file.read_text().replace(str(wide_base("llama")), str(tmp_path / "base"))
    file.write_text(text.replace(f'dtype = "{kind}"', 'dtype = "auto"'))
    trained = load_run(run)
    assert kind_of(trained.base.model) == kind
    assert gap(run_logits(run), run_logits(quantised_run("llama", kind))) < 1e-5
    apart = merge_into_base(run, trained, tmp_path / "out", torch.float32)
    assert apart.largest < 1e-4
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in written
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("absmax" in name or name.endswith("SCB") for name in stored)
