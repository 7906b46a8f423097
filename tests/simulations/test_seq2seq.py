"""Encoders with decoders from recipe to exported adapter: simulations, and processes over mutual TLS."""

import json
import re

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from client.finished.run import load_run, load_test_rows
from client.finished.text import generate
from client.objectives.examples import eval_batches
from common.errors import ModelError
from simulations.corpora.corpus import to_jsonl
from simulations.report.samples import samples
from simulations.tiny_base import tiny_base
from tests.helpers.end_to_end.command import call, refusal, settings
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.runs import hashes, records, run_tiny, toy_rows, write_recipe

KINDS = {"t5": 4, "bart": 8}
"""Tiny bases, and the rounds in which each learns to copy."""
WORDS = ("cow", "barn", "boat", "oven", "rail", "mast", "horse", "plate")
LEARNING = (
    *("clients.partition=iid", "workers=1", "data.test_rows=40", "lora.targets=all-linear", "clients.ranks=[2, 4]"),
    *("train.steps=25", "train.lr=2e-2"),
)


def copies(folder, count=240):
    """Write rows that ask for a copy of one of a few words."""
    rows = [{"prompt": f"copy {WORDS[n % len(WORDS)]}", "completion": WORDS[n % len(WORDS)]} for n in range(count)]
    (folder / "copies.jsonl").write_bytes(to_jsonl(rows))
    return write_recipe(folder, folder / "copies.jsonl", task="seq2seq", max_length=32)


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    words = (f"base.path=tiny:{request.param}", f"train.rounds={KINDS[request.param]}")
    return run_tiny(folder, *LEARNING, *words, recipe=copies(folder))


def test_found_B10_a_copy_is_learned(run):
    first, last = (records(run)[n]["test_loss"] for n in (0, -1))
    assert last < 0.6 * first
    assert records(run)[-1]["aggregation_error"] < 1e-6


def test_without_a_learning_rate_nothing_is_learned(tmp_path):
    words = ("base.path=tiny:t5", "train.lr=1e-30", "train.rounds=1")
    still = run_tiny(tmp_path, *LEARNING, *words, recipe=copies(tmp_path))
    first, last = (records(still)[n]["test_loss"] for n in (0, -1))
    assert last == pytest.approx(first, abs=1e-5)


def test_evaluate_gives_the_runs_last_loss_over_all_that_is_written(run):
    measured = json.loads(call("evaluate", run).out)
    assert measured["test_loss"] == pytest.approx(records(run)[-1]["test_loss"], abs=1e-5)
    rows = load_test_rows(run)[1].rows
    assert (measured["test_accuracy"], measured["count"]) == (None, sum(len(row.target) for row in rows))


def kind_of(run):
    return load_run(run).base.model.config.model_type


@torch.no_grad()
def loss_and_logits(model, run):
    """Return what a model of Transformers or PEFT computes on the run's test rows."""
    rows = load_test_rows(run)[1]
    (batch,) = eval_batches(rows, len(rows))
    out = model.eval()(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.targets)
    return out.loss.item(), out.logits


def test_found_B10_an_export_gives_the_runs_loss_in_peft_with_one_rank_or_many(run, tmp_path):
    assert call("export", run, tmp_path / "out").status == 0
    plain = AutoModelForSeq2SeqLM.from_pretrained(tiny_base(kind_of(run)))
    base, before = loss_and_logits(plain, run)
    one, logits = loss_and_logits(PeftModel.from_pretrained(plain, tmp_path / "out"), run)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_2_SEQ_LM"
    assert one == pytest.approx(records(run)[-1]["test_loss"], abs=1e-4)
    assert base > one + 1  # control
    published = PeftModel.from_pretrained(
        AutoModelForSeq2SeqLM.from_pretrained(tiny_base(kind_of(run))), run / "adapter"
    )
    assert (loss_and_logits(published, run)[1] - logits).abs().max() < 1e-4 * logits.abs().max()
    assert (before - logits).abs().max() > 1  # control


@pytest.mark.parametrize("kind", KINDS)
def test_factors_of_mixed_ranks_have_equal_logits_in_peft(kind, tmp_path):
    from client.model.lora import Lora, frozen_lane
    from client.model.targets import find_targets
    from common.huggingface.peft_folder import write_peft_folder
    from tests.helpers.common.models import load, random_adapter

    base = load(kind, "seq2seq")
    lora = Lora(base.model, find_targets(base, "all-linear"))
    adapter = random_adapter(lora.shapes, (1, 3, 7), seed=1)
    write_peft_folder(tmp_path / "out", adapter, (), str(tiny_base(kind)), "seq2seq")
    asked = {"input_ids": torch.arange(7, 27).view(2, 10), "labels": torch.arange(30, 38).view(2, 4)}
    plain = AutoModelForSeq2SeqLM.from_pretrained(tiny_base(kind)).eval()
    with torch.no_grad():
        before = plain(**asked).logits
        lora.lanes = [frozen_lane(adapter)]
        ours = base.model(**asked).logits
        theirs = PeftModel.from_pretrained(plain, tmp_path / "out").eval()(**asked).logits
    assert (ours - theirs).abs().max() < 1e-5 * ours.abs().max()
    assert (ours - before).abs().max() > 1e-2 * ours.abs().max()  # control


def test_a_merged_folder_computes_and_writes_what_the_run_does(run, tmp_path):
    ended = call("merge", run, tmp_path / "merged")
    assert ended.status == 0, ended
    merged = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged")
    assert loss_and_logits(merged, run)[0] == pytest.approx(records(run)[-1]["test_loss"], abs=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    given = tokenizer("copy mast", return_tensors="pt")
    begin = {} if kind_of(run) == "t5" else {"decoder_input_ids": torch.tensor([[3, 2]])}
    text = tokenizer.decode(merged.generate(**given, **begin, max_new_tokens=6)[0], skip_special_tokens=True)
    assert call("generate", run, "--prompt", "copy mast", "--tokens", 6).out == f"{text}\n"


def test_generate_copies_words(run):
    right = [generate(run, f"copy {word}", 6) == word for word in WORDS]
    assert sum(right) >= 6


def test_the_report_shows_what_is_read_and_written(run):
    for answer in samples(run):
        assert answer["prompt"] == f"copy {answer['expected']}"
        assert answer["after"] == generate(run, answer["prompt"], 40)
        assert answer["before"] != answer["after"]
        assert answer["prompt"] in read_page(run / "report.html").text


def test_the_card_opens_the_adapter_with_the_class_for_both(run, tmp_path):
    call("export", run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pipeline_tag: text2text-generation" in card
    assert "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer" in card
    assert "vllm" not in card
    assert "llama.cpp" not in card


def test_forms_that_cannot_hold_it_are_refused_with_status_2(run, tmp_path):
    message = refusal(call("export", run, tmp_path / "out", "--format", "gguf"))
    assert (
        "is an encoder with a decoder, and llama.cpp takes adapters of decoders alone; export with --format" in message
    )
    assert not (tmp_path / "out").exists()
    assert "is an encoder with a decoder, and serve answers with decoders" in refusal(call("serve", run, "--port", "0"))


@pytest.mark.parametrize("words", [("--prompt", "cow " * 600), ("--prompt", "cow", "--tokens", "600")])
def test_more_than_the_positions_is_refused(run, words):
    if kind_of(run) == "t5":
        assert call("generate", run, "--prompt", "cow " * 600, "--tokens", 2).status == 0  # it has no last position
        return
    message = refusal(call("generate", run, *words))
    assert "beyond the model's 512 positions; shorten it" in message


@pytest.mark.parametrize(
    "rule", [{"algorithm": "fedsgd"}, {"algorithm": "fedit", "ranks": "[4]"}, {"algorithm": "fedlin", "mode": "b"}]
)
def test_other_rules_train_it_too(rule, tmp_path):
    words = [f"server.algorithm={rule['algorithm']}", f"clients.ranks={rule.get('ranks', '[2, 4]')}", "train.rounds=2"]
    words += [f"server.mode={rule['mode']}"] if "mode" in rule else []
    found = run_tiny(tmp_path, *LEARNING, "base.path=tiny:t5", *words, recipe=copies(tmp_path))
    first, last = (records(found)[n]["test_loss"] for n in (0, -1))
    assert last < first - 0.3


def test_check_shows_tokens_of_both_and_init_proposes_the_task(tmp_path):
    rows = [
        row | {"summary": f"{row['summary']} {n}"} for n, row in enumerate(toy_rows(text="document", label="summary"))
    ]
    (tmp_path / "rows.jsonl").write_bytes(to_jsonl(rows))
    recipe = tmp_path / "first.toml"
    ended = call("init", "recipe", recipe, "--data", tmp_path / "rows.jsonl", "--base", "tiny:t5", "--yes")
    assert ended.status == 0, ended
    assert 'task = "seq2seq"' in recipe.read_text()
    assert "seq2seq: prompt 'document', completion 'summary'" in ended.out
    shown = call("check", recipe).out
    assert "row 1, source: " in shown
    assert "tokens, 0 carry loss" in shown
    assert re.search(r"row 1, target: (\d+) tokens, \1 carry loss", shown)
    other = call(
        "init", "recipe", tmp_path / "causal.toml", "--data", tmp_path / "rows.jsonl", "--base", "tiny:llama", "--yes"
    )
    assert 'task = "causal-lm"' in (tmp_path / "causal.toml").read_text(), other  # control
    alone = call("check", tmp_path / "rows.jsonl", "--base", "tiny:bart").out
    assert 'task = "seq2seq"' in alone


@pytest.mark.parametrize("column", ["text", "messages"])
def test_found_B10_a_file_without_two_texts_ends_the_command(tmp_path, column):
    value = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}] if column == "messages" else "t"
    (tmp_path / "rows.jsonl").write_bytes(to_jsonl([{column: value}] * 40))
    recipe = write_recipe(tmp_path, tmp_path / "rows.jsonl", task="seq2seq")
    words = settings("base.path=tiny:t5", "clients.partition=iid")
    message = refusal(call("simulate", recipe, "--out", tmp_path / "runs", *words))
    assert 'rows.jsonl, line 1: task = "seq2seq" needs two texts' in message
    assert 'task = "causal-lm"' in message


@pytest.mark.slow
def test_found_B10_a_server_and_three_nodes_train_an_encoder_with_its_decoder(tmp_path):
    words = ("data.task=seq2seq", "base.path=tiny:bart", "clients.partition=iid", "data.max_length=48")
    project = Project(tmp_path, *words)
    ended = project.whole_run()
    assert [each.status for each in ended] == [0] * 4, ended
    nodes = [{node["name"]: node for node in record["clients"]} for record in records(project.run)]
    assert {name: nodes[-1][name]["rank"] for name in NODES} == NODES
    assert all(nodes[-1][name]["loss_after"] < nodes[0][name]["loss_after"] - 0.5 for name in NODES)
    project.run_in_one_process()
    assert hashes(project.run) == hashes(project.shards)


def test_the_error_of_serving_is_one_of_the_model(run):
    from client.serving.http.app import make_service
    from client.serving.limits import Limits
    from client.serving.models import Models

    trained = load_run(run)
    with pytest.raises(ModelError, match="serve answers with decoders and classifiers; use `fedlora generate`"):
        make_service(trained, Models(trained, "run"), Limits())
