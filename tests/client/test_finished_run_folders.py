"""The folders that a run is exported and merged to (client/finished_run.py)."""

import json

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, PeftModel
from peft.utils import ModulesToSaveWrapper
from transformers import AutoTokenizer

from client.finished_run import evaluate_run, export, load_run, merge_into_base
from common.errors import ConfigError, ModelError
from common.huggingface.peft_folder import read_peft_folder
from tests.client.conftest import RUNS
from tests.helpers.client.nodes import PLACES
from tests.helpers.client.outputs import gap, logits_of, plain_base, run_logits
from tests.helpers.common.models import AUTO_MODEL
from tests.helpers.end_to_end.command import call


@pytest.mark.parametrize("kind", RUNS)
def test_peft_gives_the_logits_of_the_run(run_of, tmp_path, kind):
    run = run_of(kind)
    export(run, tmp_path / "out", None)
    model, expected = PeftModel.from_pretrained(plain_base(run), tmp_path / "out"), run_logits(run)
    assert gap(logits_of(model, run), expected) < 1e-5
    with model.disable_adapter():
        assert gap(logits_of(model, run), expected) > 1e-2  # control


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta", "gpt2 classes"])
def test_a_redrawn_head_would_not_give_the_logits_of_the_run(run_of, tmp_path, kind):
    """The finished head must be in the folder, since PEFT's user has another one before."""
    run = run_of(kind)
    export(run, tmp_path / "out", None)
    model = PeftModel.from_pretrained(plain_base(run), tmp_path / "out")
    saved = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
    assert saved
    for module in saved:
        module.modules_to_save["default"].load_state_dict(module.original_module.state_dict())
    assert gap(logits_of(model, run), run_logits(run)) > 1e-2


def test_peft_finds_the_base_from_the_folder_alone(run_of, tmp_path):
    run = run_of("bert")
    export(run, tmp_path / "out", None)
    model = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "out", num_labels=len(PLACES))
    assert gap(logits_of(model, run), run_logits(run)) < 1e-5


@pytest.mark.parametrize("rank", [1, 3])
def test_a_smaller_rank_is_the_best_approximation(run_of, tmp_path, rank):
    run = run_of("bert")
    export(run, tmp_path / "out", rank)
    whole, written = load_run(run), read_peft_folder(tmp_path / "out")
    assert written.adapter.rank == rank
    for name, factors in written.adapter.items():
        full = whole.adapter[name].astype("f8")
        sigma = np.linalg.svd(full.b @ full.a, compute_uv=False)
        lost = np.linalg.norm(full.b @ full.a - factors.astype("f8").b @ factors.astype("f8").a)
        assert lost == pytest.approx(np.linalg.norm(sigma[rank:]), rel=1e-4)
        assert lost > 1e-3
    for name, tensor in read_peft_folder(run / "adapter").saved.items():  # The head stays whole.
        assert np.allclose(written.saved[name], tensor, atol=1e-7)


def test_a_rank_above_the_runs_own_changes_nothing(run_of, tmp_path):
    run = run_of("bert")
    export(run, tmp_path / "out", 1000)
    model = PeftModel.from_pretrained(plain_base(run), tmp_path / "out")
    assert gap(logits_of(model, run), run_logits(run)) < 1e-5


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused_before_anything_is_written(run_of, tmp_path, rank):
    with pytest.raises(ConfigError, match=f"--rank {rank} is below 1; give the largest rank"):
        export(run_of("bert"), tmp_path / "out", rank)
    assert not (tmp_path / "out").exists()


TEXT = "a cow by the old barn"
MERGED = [kind for kind in RUNS if kind != "gpt2 words"]


@pytest.mark.parametrize("kind", MERGED)
def test_a_merged_folder_gives_the_logits_of_the_run_in_plain_transformers(run_of, tmp_path, kind):
    run = run_of(kind)
    printed = merge_into_base(run, tmp_path / "out")
    model = AUTO_MODEL[load_run(run).node.data.task].from_pretrained(tmp_path / "out")
    assert printed < 1e-5
    assert gap(logits_of(model, run), run_logits(run)) < 1e-5
    assert gap(logits_of(plain_base(run), run), run_logits(run)) > 1e-2  # control


@pytest.mark.parametrize("kind", MERGED)
def test_a_merged_folder_keeps_the_settings_of_the_base(run_of, tmp_path, kind):
    trained = load_run(run_of(kind))
    merge_into_base(run_of(kind), tmp_path / "out")
    before, after = (json.loads((path / "config.json").read_text()) for path in (trained.base.folder, tmp_path / "out"))
    dropout = {key for key in before if "dropout" in key or key.endswith("pdrop")}
    assert dropout
    assert {key: after[key] for key in dropout} == {key: before[key] for key in dropout}
    assert not any(getattr(trained.base.model.config, key) for key in dropout)  # control: in the run it is off
    if trained.node.data.task == "classification":
        assert after["id2label"] == {str(number): label for number, label in enumerate(PLACES)}


def test_a_merged_folder_has_the_tokenizer_of_the_base(run_of, tmp_path):
    merge_into_base(run_of("bert"), tmp_path / "out")
    mine, base = (
        AutoTokenizer.from_pretrained(path) for path in (tmp_path / "out", load_run(run_of("bert")).node.base.path)
    )
    assert mine(TEXT)["input_ids"] == base(TEXT)["input_ids"]


def test_a_merge_leaves_the_base_and_the_run_as_they_were(run_of, tmp_path):
    run = run_of("bert")
    before = load_run(run)
    tensors = {name: tensor.clone() for name, tensor in before.base.model.state_dict().items()}
    measured = evaluate_run(run)
    merge_into_base(run, tmp_path / "out")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in before.base.model.state_dict().items())
    assert evaluate_run(run) == measured


def test_a_tied_tensor_is_not_merged_but_exported(run_of, tmp_path):
    """GPT-2's word embedding is its output projection too."""
    with pytest.raises(
        ModelError, match=r"transformer.wte.weight is tied to lm_head.weight.*export an adapter instead"
    ):
        merge_into_base(run_of("gpt2 words"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["export", "merge"])
def test_a_folder_that_exists_is_not_written_to(run_of, tmp_path, verb):
    out = tmp_path / "out"
    out.mkdir()
    ended = call(verb, run_of("bert"), out)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"error: {out} already exists; give the path of a new folder\n"
    assert not list(out.iterdir())
