"""Found by use: what an export or a merge could not hold is refused, and what it can is whole."""

from importlib.util import find_spec

import pytest
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from client.exporting import peft_check
from client.finished.run import load_run
from client.model import targets
from simulations.architectures.trial import try_kind, write_base
from tests.helpers.client.outputs import gap, logits_of, run_logits
from tests.helpers.client.own_heads import with_own_head
from tests.helpers.end_to_end.command import TINY, call, refusal, settings
from tests.helpers.simulations.runs import BRIEF, run_tiny

LANGUAGE = ("data.task=causal-lm", "clients.partition=iid")


@pytest.mark.parametrize(("kind", "layer"), [("deepseek_v3", "mlp.down_proj"), ("mamba", "mixer.out_proj")])
def test_found_B1_B2_an_export_of_an_earlier_run_that_peft_would_apply_in_part_is_refused(
    kind, layer, tmp_path, monkeypatch
):
    base = write_base(kind, "causal-lm", tmp_path / "base")
    with monkeypatch.context() as patch:
        patch.setattr(targets, "unfit_modules", lambda model: {})  # as an earlier release
        run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, f"base.path={base}", "lora.targets=all-linear")
    message = refusal(call("export", run, tmp_path / "out"))
    assert "modules of the update cannot be exported for PEFT: " in message
    assert f"layers.0.{layer}, " in message
    assert f": PEFT {'takes' if kind == 'deepseek_v3' else 'refuses'} " in message
    assert "`fedlora merge` writes the update into the base" in message
    assert not (tmp_path / "out").exists()
    assert call("merge", run, tmp_path / "merged").status == 0


@pytest.mark.parametrize("kind", ["deepseek_v3", "mamba"])
def test_found_B1_B2_what_nobody_knew_of_peft_is_found_by_loading_the_export(kind, tmp_path, monkeypatch):
    base = write_base(kind, "causal-lm", tmp_path / "base")
    monkeypatch.setattr(targets, "unfit_modules", lambda model: {})
    monkeypatch.setattr(peft_check, "unfit_modules", lambda model: {})
    run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, f"base.path={base}", "lora.targets=all-linear")
    message = refusal(call("export", run, tmp_path / "out"))
    if kind == "mamba":  # PEFT refuses it whole
        assert "the installed PEFT cannot load the export: " in message
    else:  # PEFT loads it, and leaves all modules of these names
        assert "6 modules of the update cannot be exported for PEFT: model.layers.0.mlp.down_proj, " in message
        assert "the installed PEFT does not apply it" in message
    assert not (tmp_path / "out").exists()


def test_found_B1_a_named_module_ends_a_command_with_status_2(tmp_path):
    base = write_base("deepseek_v3", "causal-lm", tmp_path / "base")
    words = settings(*BRIEF, *LANGUAGE, f"base.path={base}", "lora.targets=['up_proj']")
    message = refusal(call("simulate", TINY, "--out", tmp_path / "runs", *words))
    assert "names model.layers.0.mlp.up_proj, which cannot be adapted" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_found_B11_a_run_that_adapts_the_output_exports_equal_logits(kind, tmp_path):
    names = "['lm_head', 'embed_tokens']" if kind == "llama" else "['lm_head', 'c_attn']"
    run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, f"base.path=tiny:{kind}", f"lora.targets={names}")
    assert call("export", run, tmp_path / "peft").status == 0
    plain = AutoModelForCausalLM.from_pretrained(load_run(run).base.folder)
    before = logits_of(plain, run)
    peft = logits_of(PeftModel.from_pretrained(plain, tmp_path / "peft"), run)
    assert gap(peft, run_logits(run)) < 1e-4 < 1e-2 < gap(before, run_logits(run))
    if find_spec("gguf") and kind == "gpt2":
        assert "lm_head is tied to the embedding" in refusal(call("export", run, tmp_path / "gguf", "--format", "gguf"))
    ended = call("merge", run, tmp_path / "merged")
    if kind == "gpt2":  # tied
        assert "is tied to" in refusal(ended)
        assert "export an adapter instead" in ended.err
    else:
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        assert gap(logits_of(merged, run), run_logits(run)) < 1e-4


def test_found_B13_a_configuration_of_several_parts_trains_exports_and_merges(tmp_path):
    answers = try_kind("gemma3", "causal-lm", tmp_path).answers
    assert {question: (answer.works, answer.reason) for question, answer in answers.items()} == dict.fromkeys(
        ("trains", "exports", "merges", "generates"), (True, "")
    )
    assert not hasattr(load_run(tmp_path / "run").base.model.config, "pad_token_id")  # what merging asked for
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="pt") as stored:
        assert any("vision_tower" in name for name in stored.keys())  # noqa: SIM118


def test_found_B13_it_classifies_too(tmp_path):
    base = write_base("gemma3", "causal-lm", tmp_path / "base")
    run = run_tiny(tmp_path, *BRIEF, f"base.path={base}", "lora.targets=all-linear")
    merged = call("merge", run, tmp_path / "merged")
    assert merged.status == 0, merged.err


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta", "llama"])
@pytest.mark.parametrize("classes", [("up", "down", "left", "right"), ("x", "y")], ids=["as many", "other number"])
def test_found_B8_a_replaced_head_is_exported_and_merged_whole(kind, classes, tmp_path):
    base = with_own_head(tmp_path / "base", classes, kind)
    run = run_tiny(tmp_path, *BRIEF, f"base.path={base}", "base.head=new")  # four places
    assert call("export", run, tmp_path / "peft").status == 0
    sizes = {"num_labels": 4, "ignore_mismatched_sizes": True}
    plain = AutoModelForSequenceClassification.from_pretrained(base, **sizes)
    plain.config.pad_token_id = load_run(run).base.model.config.pad_token_id
    peft = PeftModel.from_pretrained(plain, tmp_path / "peft")
    assert gap(logits_of(peft, run), run_logits(run)) < 1e-4
    assert call("merge", run, tmp_path / "merged").status == 0
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert gap(logits_of(merged, run), run_logits(run)) < 1e-4
    assert run_logits(run).abs().max() > 0.01
