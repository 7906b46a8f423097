"""Found by use: the report's sample answers, which never decide a run's result."""

import pytest

from simulations import simulate as module
from simulations.architectures.trial import write_base
from tests.helpers.end_to_end.command import call, refusal
from tests.helpers.simulations.runs import BRIEF, records, run_tiny

LANGUAGE = ("data.task=causal-lm", "clients.partition=iid", "lora.targets=all-linear")
LINEAR = {"layer_types": ["linear_attention"] * 2}


@pytest.mark.parametrize("kind", ["qwen3_next", "qwen3_5_text"])
def test_found_B14_a_model_of_linear_attention_only_trains_and_answers(kind, tmp_path):
    base = write_base(kind, "causal-lm", tmp_path / "base", **LINEAR)
    run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, f"base.path={base}")
    assert records(run)[-1]["test_loss"] < records(run)[0]["test_loss"]
    assert (run / "report.html").exists()
    assert call("generate", run, "--prompt", "The cow", "--tokens", 4).status == 0


def test_found_B14_a_sample_that_fails_is_a_line_and_the_run_has_its_result(tmp_path, monkeypatch, caplog):
    def crash(run):
        raise RuntimeError("no such cache")

    monkeypatch.setattr(module, "samples", crash)
    run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, "base.path=tiny:llama")
    assert f"the report of {run} has no sample answers: no such cache" in caplog.text
    assert (run / "report.html").exists()
    assert len(records(run)) == 3


def test_found_B14_a_model_that_cannot_generate_is_refused_in_our_words(tmp_path, monkeypatch):
    run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, "base.path=tiny:llama")

    def crash(*given, **asked):
        raise ValueError("no such cache")

    monkeypatch.setattr("transformers.generation.utils.GenerationMixin.generate", crash)
    message = refusal(call("generate", run, "--prompt", "The cow"))
    assert "Transformers cannot generate with" in message
    assert "evaluate, export or merge the run" in message
