import json

import pytest

from client.finished.run import load_run
from client.finished.text import generate
from simulations.report.samples import samples
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.runs import BRIEF, run_tiny

LANGUAGE = ("data.task=causal-lm", "clients.partition=iid", "workers=1", "data.test_rows=20")
LEARNING = (
    "base.path=tiny:llama",
    "lora.targets=['q_proj', 'v_proj', 'embed_tokens']",
    "train.rounds=3",
    "train.steps=25",
    "train.lr=3e-2",
)
PLACES = {"farm", "harbour", "kitchen", "station"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a language model that learns to name the place."""
    return run_tiny(tmp_path_factory.mktemp("llama"), *LANGUAGE, *LEARNING)


@pytest.fixture(scope="module")
def answers(run):
    return samples(run, count=3, tokens=8)


def test_each_has_prompt_answer_before_and_after(answers):
    assert [list(answer) for answer in answers] == [["prompt", "expected", "before", "after"]] * 3
    assert len({answer["prompt"] for answer in answers}) == 3


def test_prompt_and_answer_are_those_of_a_test_row(run, answers):
    rows = {row["prompt"]: row["completion"] for row in _test_rows(run)}
    assert all(rows[answer["prompt"]] == answer["expected"] for answer in answers)


def _test_rows(run):
    return [json.loads(line) for line in (run / "test.jsonl").read_text().splitlines()]


def test_the_trained_model_names_a_place_and_the_base_does_not(answers):
    assert all(answer["after"].strip() in PLACES for answer in answers)
    assert not any(answer["before"].strip() in PLACES for answer in answers)


def test_after_is_what_the_command_generates(run, answers):
    assert [generate(run, answer["prompt"], 8) for answer in answers] == [answer["after"] for answer in answers]


def test_before_is_what_the_base_alone_generates(run, answers):
    base = load_run(run).base
    given = base.tokenizer(answers[0]["prompt"], return_tensors="pt")
    output = base.model.generate(**given, max_new_tokens=8, do_sample=False)
    plain = base.tokenizer.decode(output[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    assert plain == answers[0]["before"]


def test_the_report_shows_two(run):
    text = read_page(run / "report.html").text
    assert "Samples" in text
    for answer in samples(run):
        assert answer["prompt"] in text
        assert answer["after"] in text


@pytest.mark.parametrize("settings", [(), (*LANGUAGE, "base.path=tiny:llama", "data.test_rows=0")])
def test_without_test_rows_or_a_language_model_there_are_none(tmp_path, settings):
    assert "Samples" not in read_page(run_tiny(tmp_path, *BRIEF, *settings) / "report.html").text


def test_a_plain_text_is_continued_from_its_middle_to_the_last_position_at_most(tmp_path):
    run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, "base.path=tiny:gpt2", 'data.prompt="absent"')
    (answer,) = samples(run, count=1, tokens=10_000)
    assert answer["prompt"] + answer["expected"] == _test_rows(run)[0]["text"]
    assert answer["prompt"]
    assert answer["before"] != answer["expected"]
