import json
import shutil

import pytest

from client.finished.run import evaluate_run, load_run, load_test_rows
from client.finished.text import continue_text, generate, longest_answer
from client.node import load_node
from client.objectives.source_target import Side
from client.results.folder import NodeFolder
from client.scoring.predicting import predict
from client.scoring.references import read_asked
from client.scoring.registry import METRICS
from client.scoring.score import score_run
from client.scoring.text_metrics import without_wordnet
from client.scoring.writing import write_texts
from common.errors import ConfigError
from tests.helpers.client.saved import node_folder
from tests.helpers.end_to_end.command import call, refusal

TEXTS = ("bleu", "nist", "rouge1", "rouge2", "rougeL")


def _rows(run):
    return [json.loads(line) for line in (run / "test.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_several_texts_at_a_time_are_those_that_generate_writes(run_of, kind):
    run = run_of(kind)
    trained, prompts = load_run(run), [row["prompt"] for row in _rows(run)]
    texts = write_texts(trained, prompts)
    for prompt, text in list(zip(prompts, texts, strict=True))[:4]:
        longest = trained.node.data.max_length - len(trained.base.tokenizer(prompt)["input_ids"])
        assert generate(run, prompt, longest) == text
    assert len(set(prompts)) == len(prompts) == 20  # control: each has its own


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_decoder_writes_for_several_texts_at_a_time_what_it_writes_for_each(run_of, kind):
    trained = load_run(run_of(kind))
    longest = trained.node.data.max_length
    prompts = [row["prompt"][: 12 * (n % 3 + 1)] for n, row in enumerate(_rows(run_of(kind)))] + ["a cow is " * 30]
    texts = write_texts(trained, prompts)
    alone = [generate(run_of(kind), prompt, longest_answer(trained.base, longest)) for prompt in prompts]
    read = Side.of(trained.base.tokenizer, written=False)
    lengths = [len(read.read(prompt)) for prompt in prompts]
    assert texts[:-1] == alone[:-1]
    assert max(lengths[:-1]) <= longest < lengths[-1]
    cut = read.examples(prompts[-1:], longest)[0].ids.tolist()
    assert texts[-1] == continue_text(trained, trained.adapter, cut, longest_answer(trained.base, longest))
    assert len({*lengths[:16]}) > 2  # control: one batch pads
    assert len({*texts}) > 2


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_answer_is_no_longer_than_a_row_of_training_or_the_models_positions(run_of, kind, monkeypatch):
    base = load_run(run_of(kind)).base
    side = Side.of(base.tokenizer, written=True)
    assert longest_answer(base, 32) == 32 - len(side.beginning)
    monkeypatch.setattr(type(base), "positions", 8)
    assert longest_answer(base, 32) == 8 - len(side.beginning) - 1


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_the_command_scores_what_the_model_writes(run_of, kind):
    run = run_of(kind)
    ended = call("evaluate", run, "--metrics", "bleu,nist,rouge")
    measured = json.loads(ended.out)
    assert (ended.status, measured["scored"]) == (0, 20)
    perplexity = {"test_perplexity"} & measured.keys()
    assert measured.keys() - perplexity == {"test_loss", "test_accuracy", "count", "scored", *TEXTS}
    texts = write_texts(load_run(run), [row["prompt"] for row in _rows(run)])
    right = [text.strip() == row["completion"].strip() for text, row in zip(texts, _rows(run), strict=True)]
    assert measured["rouge1"] >= 100 * sum(right) / len(right) > 0  # a completion is one word
    assert len(set(texts)) > 1  # control: not the same text after each prompt


def test_a_limit_takes_the_first_prompts(run_of):
    run = run_of("llama")
    ended = call("evaluate", run, "--metrics", "rouge", "--limit", 3)
    assert json.loads(ended.out)["scored"] == 3
    assert [each.prompt for each in read_asked(run)[:3]] == [row["prompt"] for row in _rows(run)[:3]]


@pytest.fixture
def changed(run_of, tmp_path):
    """Return a function that writes a copy of the language model's run with these test rows."""

    def change(*rows):
        run = tmp_path / "run"
        shutil.copytree(run_of("llama"), run)
        (run / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return run

    return change


def test_all_completions_of_a_prompt_are_its_references(changed):
    run = changed(
        *({"prompt": "a cow is seen at the", "completion": f" {place}"} for place in ("farm", "old barn", "farm")),
        {"prompt": "a boat is seen at the", "completion": " harbour"},
    )
    assert [(each.prompt, each.references) for each in read_asked(run)] == [
        ("a cow is seen at the", ("farm", "old barn", "farm")),
        ("a boat is seen at the", ("harbour",)),
    ]
    assert score_run(run, "bleu")["scored"] == 2


def test_rows_that_are_left_out_are_no_references(changed):
    run = changed({"prompt": "a cow", "completion": " farm"}, {"prompt": "", "completion": " x"})
    settings = run / "test.toml"
    settings.write_text(settings.read_text().replace("skip_bad_rows = false", "") + "\n")
    text = settings.read_text()
    settings.write_text("skip_bad_rows = true\n" + text)
    assert [each.prompt for each in read_asked(run)] == ["a cow"]


def test_rows_without_a_prompt_have_no_text_to_compare(changed):
    run = changed({"text": "a cow by the barn"})
    assert "its rows are of the layout text; metrics of texts need" in refusal(
        call("evaluate", run, "--metrics", "bleu")
    )


def test_a_nodes_own_folder_is_scored_on_the_rows_that_it_held_out(run_of, tmp_path):
    run = node_folder(tmp_path, run_of("llama"))
    held = load_node(NodeFolder.open(run).settings, saved=True).held
    tokenizer = load_run(run).base.tokenizer
    texts = {tokenizer.decode(held[place].ids, skip_special_tokens=True) for place in range(len(held))}
    asked = read_asked(run)
    assert {f"{each.prompt} {each.references[0]}" for each in asked} == texts
    assert score_run(run, "rouge", limit=2)["scored"] == 2


def test_matthews_is_of_the_predictions_that_accuracy_counts(run_of):
    run = run_of("bert")
    measured = json.loads(call("evaluate", run, "--metrics", "matthews").out)
    predicted, true = predict(load_run(run), load_test_rows(run)[1])
    right = sum(one == two for one, two in zip(predicted, true, strict=True)) / len(true)
    assert right == evaluate_run(run).measures["accuracy"] == measured["test_accuracy"]
    assert measured["matthews"] == METRICS["matthews"].measure(predicted, true)
    assert 0 < measured["matthews"] <= 1
    assert measured["scored"] == measured["count"] == 20


@pytest.mark.skipif(without_wordnet() is None, reason="NLTK's WordNet is on this machine")
def test_meteor_without_its_words_is_said_and_no_failure(run_of):
    ended = call("evaluate", run_of("llama"), "--metrics", "meteor,rouge", "--limit", 1)
    measured = json.loads(ended.out)
    assert (ended.status, measured["meteor"]) == (0, None)
    assert measured["rouge1"] is not None
    assert ended.err.startswith("meteor is left out: it needs NLTK's WordNet")


@pytest.mark.parametrize(
    ("kind", "words", "reason"),
    [
        ("bert", ("--metrics", "bleu"), "--metrics bleu scores texts, and the run's task is classification"),
        ("bert", ("--metrics", "matthews", "--limit", 3), "--limit is for texts that are written"),
        ("llama", ("--metrics", "matthews"), "--metrics matthews scores labels"),
        ("llama", ("--metrics", "blue"), "did you mean 'bleu'?"),
    ],
)
def test_what_cannot_be_scored_is_refused(run_of, kind, words, reason):
    assert reason in refusal(call("evaluate", run_of(kind), *words))


def test_a_limit_needs_metrics(run_of):
    ended = call("evaluate", run_of("llama"), "--limit", 3)
    assert (ended.status, ended.out) == (2, "")
    assert "add --metrics" in ended.err


def test_a_run_without_test_rows_is_refused(changed):
    run = changed()
    with pytest.raises(Exception, match="no rows"):
        score_run(run, "bleu")
    with pytest.raises(ConfigError):  # control: the metric is looked at first
        score_run(run, "matthews")
