"""Commands that use a finished run."""

import json
import re

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from client.data.files.source import read_rows
from simulations.tiny_base import tiny_base
from tests.helpers.end_to_end.command import call
from tests.helpers.simulations.runs import BRIEF, records, run_tiny

LANGUAGE = ("data.task=causal-lm", "clients.partition=iid", "base.path=tiny:llama", "train.steps=10")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("run"), *BRIEF, "train.steps=10", "train.lr=5e-2")


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("language"), *BRIEF, *LANGUAGE)


def test_evaluate_prints_one_line_with_the_runs_numbers(run):
    ended = call("evaluate", run)
    assert ended.status == 0
    assert ended.out.count("\n") == 1
    result, last = json.loads(ended.out), records(run)[-1]
    assert result["count"] == 20
    assert result["test_loss"] == pytest.approx(last["test_loss"], rel=1e-4)
    assert result["test_accuracy"] == pytest.approx(last["test_accuracy"])
    assert result["test_loss"] != pytest.approx(records(run)[0]["test_loss"], rel=1e-4)


def logits(model, run):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base("bert"))
    texts = [row.fields["text"] for row in read_rows(run / "test.jsonl")]
    with torch.no_grad():
        return model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def plain_base():
    return AutoModelForSequenceClassification.from_pretrained(tiny_base("bert"), num_labels=4)


def test_an_exported_adapter_is_the_runs(run, tmp_path):
    ended = call("export", run, tmp_path / "out")
    assert ended.status == 0
    assert str(tmp_path / "out") in ended.out
    own = logits(PeftModel.from_pretrained(plain_base(), run / "adapter"), run)
    exported = logits(PeftModel.from_pretrained(plain_base(), tmp_path / "out"), run)
    torch.testing.assert_close(exported, own, rtol=1e-5, atol=1e-5)
    assert (logits(plain_base(), run) - own).abs().max() > 1e-2


def test_an_export_of_a_lower_rank_is_near(run, tmp_path):
    assert call("export", run, tmp_path / "small", "--rank", 2).status == 0
    sizes = [(folder / "adapter_model.safetensors").stat().st_size for folder in (tmp_path / "small", run / "adapter")]
    assert sizes[0] < sizes[1] / 2
    own = logits(PeftModel.from_pretrained(plain_base(), run / "adapter"), run)
    small = logits(PeftModel.from_pretrained(plain_base(), tmp_path / "small"), run)
    assert 0 < (small - own).abs().max() < 0.5


def test_a_merged_model_needs_no_adapter(run, tmp_path):
    ended = call("merge", run, tmp_path / "merged")
    assert ended.status == 0
    assert float(re.search(r"base \+ adapter: ([^,\s]+)", ended.out)[1]) < 1e-4
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    own = logits(PeftModel.from_pretrained(plain_base(), run / "adapter"), run)
    torch.testing.assert_close(logits(merged, run), own, rtol=1e-4, atol=1e-4)
    assert merged.config.id2label[0] == "farm"


@pytest.mark.parametrize("verb", ["export", "merge"])
def test_a_folder_that_exists_is_left_alone(run, tmp_path, verb):
    (tmp_path / "note.txt").write_text("mine")
    ended = call(verb, run, tmp_path)
    assert ended.status == 2
    assert f"{tmp_path} already exists" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_rank_below_one_cannot_be_exported(run, tmp_path):
    ended = call("export", run, tmp_path / "out", "--rank", 0)
    assert ended.status == 2
    assert "rank" in ended.err


def test_generate_writes_on(language):
    first, again = (call("generate", language, "--prompt", "cow barn is seen at the", "--tokens", 4) for _ in range(2))
    assert first.status == 0
    assert first.out == again.out
    assert 1 <= len(first.out.split()) <= 4


def test_generate_needs_a_language_model(run):
    ended = call("generate", run, "--prompt", "cow")
    assert ended.status == 2
    assert "causal-lm" in ended.err


def test_merge_and_evaluate_of_a_language_model(language, tmp_path):
    assert json.loads(call("evaluate", language).out)["test_accuracy"] is None
    ended = call("merge", language, tmp_path / "merged")
    assert float(re.search(r"base \+ adapter: ([^,\s]+)", ended.out)[1]) < 1e-3
