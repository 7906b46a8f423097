"""A run as a PEFT folder whose modules have one rank (client/exporting/)."""

from dataclasses import replace

import numpy as np
import pytest
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper

from client.finished.run import load_run
from client.serving.adapter_folder import fit
from common.errors import ConfigError, ModelError
from common.huggingface.fingerprint_parts import BASE, folder_parts
from common.huggingface.peft_folder import read_peft_folder
from tests.client.conftest import BRIEF, RUNS
from tests.helpers.client.exporting import exported
from tests.helpers.client.outputs import gap, logits_of, plain_base, run_logits
from tests.helpers.end_to_end.command import call
from tests.helpers.simulations.runs import run_tiny


@pytest.mark.parametrize("kind", RUNS)
def test_peft_gives_the_logits_of_the_run(run_of, tmp_path, kind):
    run = run_of(kind)
    exported(run, tmp_path / "out")
    model, expected = PeftModel.from_pretrained(plain_base(run), tmp_path / "out"), run_logits(run)
    assert gap(logits_of(model, run), expected) < 1e-5
    with model.disable_adapter():
        assert gap(logits_of(model, run), expected) > 1e-2  # control


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta", "gpt2 classes"])
def test_a_redrawn_head_would_not_give_the_logits_of_the_run(run_of, tmp_path, kind):
    """The finished head must be in the folder, since PEFT's user has another one before."""
    run = run_of(kind)
    exported(run, tmp_path / "out")
    model = PeftModel.from_pretrained(plain_base(run), tmp_path / "out")
    saved = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
    assert saved
    for module in saved:
        module.modules_to_save["default"].load_state_dict(module.original_module.state_dict())
    assert gap(logits_of(model, run), run_logits(run)) > 1e-2


def test_it_states_the_base_by_which_serving_and_another_run_know_it(run_of, tmp_path):
    exported(run_of("bert"), tmp_path / "out")
    it, stored = load_run(run_of("bert")), read_peft_folder(tmp_path / "out")
    assert stored.base_hash == folder_parts(it.base.folder)[BASE]
    fit(stored, it.base, tmp_path / "out")  # control
    with pytest.raises(ModelError, match=r"out was trained on the base model ffffffffffff .*; give an adapter of this"):
        fit(replace(stored, base_hash="f" * 64), it.base, tmp_path / "out")
    run_tiny(tmp_path, *BRIEF, "lora.targets=all-linear", f"base.adapter={tmp_path / 'out'}", name="same")  # control
    with pytest.raises(ModelError, match=f"it states the base model {stored.base_hash:.12}"):
        run_tiny(tmp_path, *BRIEF, "base.path=tiny:roberta", f"base.adapter={tmp_path / 'out'}", name="other")


@pytest.mark.parametrize("rank", [1, 3])
def test_a_smaller_rank_is_the_best_approximation(run_of, tmp_path, rank):
    run = run_of("bert")
    exported(run, tmp_path / "out", rank=rank)
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


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused_before_anything_is_written(run_of, tmp_path, rank):
    with pytest.raises(ConfigError, match=f"--rank {rank} is below 1; give the rank"):
        exported(run_of("bert"), tmp_path / "out", rank=rank)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["export", "merge"])
def test_a_folder_that_exists_is_not_written_to(run_of, tmp_path, verb):
    out = tmp_path / "out"
    out.mkdir()
    ended = call(verb, run_of("bert"), out)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"error: {out} already exists; give the path of a new folder\n"
    assert not list(out.iterdir())
