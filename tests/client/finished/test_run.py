import json
import os

import pytest
import torch

from client.finished.run import evaluate_run, load_run
from client.finished.text import generate
from client.model.lora import frozen_lane
from common.errors import ConfigError, JournalError
from tests.client.conftest import RUNS
from tests.helpers.client.nodes import PLACES
from tests.helpers.end_to_end.command import call
from tests.helpers.simulations.runs import records

PROMPT = "a cow by the old barn is seen at the"


@pytest.mark.parametrize("kind", RUNS)
def test_evaluate_gives_the_runs_last_numbers(run_of, kind):
    last, measured = records(run_of(kind))[-1], evaluate_run(run_of(kind))
    assert measured.loss == pytest.approx(last["test_loss"], abs=1e-5)
    assert measured.score == last["test_accuracy"]
    assert abs(measured.loss - records(run_of(kind))[0]["test_loss"]) > 1e-3  # control: the untrained base


def test_evaluate_prints_one_line_of_json(run_of):
    ended = call("evaluate", run_of("bert"))
    (line,) = ended.out.splitlines()
    assert json.loads(line).keys() == {"test_loss", "test_accuracy", "count"}
    assert (ended.status, json.loads(line)["count"]) == (0, 20)


@pytest.mark.parametrize("prompt", [PROMPT, "soup in a pan by the oven is seen at the"])
def test_generate_goes_on_as_the_run_has_learned(run_of, prompt):
    run = run_of("llama")
    assert generate(run, prompt, 8).strip() in PLACES
    assert _greedy(run, prompt, trained=True) == generate(run, prompt, 8)
    assert _greedy(run, prompt, trained=False) != generate(run, prompt, 8)  # control: the base alone


@torch.no_grad()
def _greedy(run, prompt, trained):
    """Up to 8 words, each the likeliest after those before, without the loop and the cache of Transformers."""
    it = load_run(run)
    (skeleton, lora), tokenizer = it.attach(), it.base.tokenizer
    lora.lanes = [frozen_lane(it.adapter)] if trained else []
    given = tokenizer(prompt, return_tensors="pt")["input_ids"]
    ids = given
    while ids[0, -1] != tokenizer.eos_token_id and ids.shape[1] < given.shape[1] + 8:
        ids = torch.cat([ids, skeleton.model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    lora.lanes = ()
    return tokenizer.decode(ids[0, given.shape[1] :], skip_special_tokens=True)


def test_generate_stops_after_so_many_tokens(run_of):
    run = run_of("llama")
    tokenizer = load_run(run).base.tokenizer
    assert len(tokenizer(generate(run, PROMPT, 1), add_special_tokens=False)["input_ids"]) == 1


def test_generate_needs_a_language_model(run_of):
    with pytest.raises(ConfigError, match=r"was trained for classification; generate needs \[data\] task"):
        generate(run_of("bert"), PROMPT, 4)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "--prompt is empty; give the text to continue"),
        ("cow " * 600, "exceed the model's 512 positions; shorten"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(run_of, prompt, reason):
    with pytest.raises(ConfigError) as caught:
        generate(run_of("gpt2"), prompt, 4)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [("evaluate",), ("export", "OUT"), ("merge", "OUT"), ("generate", "--prompt", "x"), ("serve", "--port", "0")],
)
@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("missing", "does not exist; "),
        ("dangling", "is not a folder; "),
        ("x" * 300, "does not exist; "),
        ("file", "is not a folder; "),
        ("pipe", "is not a folder; "),
        ("empty", "is not the folder of a run; "),
        ("run/journal", "is not the folder of a run; "),
        ("run/adapter", "is an adapter in PEFT's format, not a run; "),
        ("base", "is a model, not a run; "),
        ("begun", "has no adapter yet; wait for its first round, or "),
    ],
)
def test_what_is_no_run_is_refused_with_what_it_is_and_the_remedy(run_of, tmp_path, words, path, fault):
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "run").symlink_to(run_of("bert"))
    (tmp_path / "base").symlink_to(load_run(run_of("bert")).base.folder)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for folder in ("empty", "begun"):
        (tmp_path / folder).mkdir()
    (tmp_path / "begun" / "config.toml").touch()
    run, out = tmp_path / path, tmp_path / "out"
    ended = call(words[0], run, *(out if word == "OUT" else word for word in words[1:]))
    assert (ended.status, ended.out) == (2, "")
    more = ", which contains it" if path == "run/adapter" else ""
    assert ended.err == f"error: {run} {fault}give the folder of a run, as printed by `run: PATH`{more}\n"
    assert not out.exists()


def test_a_run_that_has_begun_but_committed_nothing_has_no_adapter(run_of, tmp_path):
    (tmp_path / "test.toml").write_text((run_of("bert") / "test.toml").read_text())
    with pytest.raises(JournalError, match="has no adapter yet"):
        load_run(tmp_path)
