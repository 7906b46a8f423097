"""Row D12: runs whose rows have sets of labels, or numbers: they learn, and every word of them is right."""

import csv
import json
import random
import re

import pytest
import torch
from fastapi.testclient import TestClient
from tensorboardX.proto.event_pb2 import Event
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from client.finished.run import load_run, load_test_rows
from client.serving.http.app import make_app, make_service
from client.serving.limits import Limits
from client.serving.models import Models
from common.settings.reader import read_toml
from common.settings.tasks import MULTI, REGRESSION, SINGLE
from simulations.tiny_base import tiny_base
from tests.helpers.client.own_heads import with_own_head, write_rows
from tests.helpers.client.problem_rows import LABELS, label_sets, numbers
from tests.helpers.end_to_end.command import call, refusal, settings
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.runs import entries, records, toy_rows, write_recipe

LEARN = ("train.rounds=4", "train.steps=25", "train.lr=3e-2", "clients.partition=iid", "clients.ranks=[4]")
BRIEF = ("train.rounds=1", "train.steps=2", "clients.partition=iid", "clients.ranks=[2]", "workers=1")
ROWS = {MULTI: label_sets, REGRESSION: numbers}
KEYS = {MULTI: "test_f1", REGRESSION: "test_r2"}


def simulate(folder, file, problem, *more, **data):
    """Run the tiny recipe on this file of rows."""
    told = {} if problem is None else {"problem_type": problem}
    recipe = write_recipe(folder, file, **told, **data)
    return call("simulate", recipe, "--out", folder, "--name", "run", *settings(*more)), folder / "run"


def finished(folder, rows, problem, *more):
    ended, run = simulate(folder, write_rows(folder / "rows.jsonl", rows), problem, *more)
    assert ended.status == 0, ended.err
    return ended, run


@pytest.fixture(scope="module", params=[MULTI, REGRESSION])
def learned(request, tmp_path_factory):
    """Return problem type, end and folder of a run that learns."""
    problem = request.param
    return problem, *finished(tmp_path_factory.mktemp("learned"), ROWS[problem](), problem, *LEARN)


def test_found_D12_the_score_rises_and_the_loss_falls(learned):
    problem, _, run = learned
    first, last = records(run)[0], records(run)[-1]
    assert last["test_loss"] < 0.85 * first["test_loss"]
    assert last[KEYS[problem]] > first[KEYS[problem]] + 0.25
    assert last["test_accuracy"] is None
    assert {*KEYS.values()} & last.keys() == {KEYS[problem]}
    assert max(each["aggregation_error"] for each in records(run)[1:]) < 1e-6


def test_found_D12_control_numbers_of_other_texts_are_not_learned(tmp_path):
    rows = numbers()
    values = [row["label"] for row in rows]
    random.Random(0).shuffle(values)
    run = finished(tmp_path, [{**row, "label": v} for row, v in zip(rows, values, strict=True)], REGRESSION, *LEARN)[1]
    assert records(run)[-1]["test_r2"] < 0.1


def test_found_D12_what_is_told_of_a_run_has_the_right_words(learned):
    problem, ended, run = learned
    key, name, unit = (KEYS[problem], *(("Micro-F1", "nats") if problem == MULTI else ("R²", "mean squared error")))
    last = records(run)[-1]
    measured = json.loads(call("evaluate", run).out)
    assert measured[key] == pytest.approx(last[key], rel=1e-6)
    assert measured["test_accuracy"] is None
    assert f"{key.removeprefix('test_')} {last[key]:.3f}" in ended.out
    assert "accuracy" not in ended.out
    page = read_page(run / "report.html")
    assert name in page.text
    assert "Accuracy" not in page.text
    assert unit in page.text
    assert problem == MULTI or "nats" not in page.text
    assert tags(run) & {"test_accuracy", "test_f1", "test_r2"} == {key}


def tags(run):
    found = set()
    for file in (run / "tensorboard").iterdir():
        content = file.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            found |= {value.tag for value in Event.FromString(content[12 : 12 + size]).summary.value}
            content = content[16 + size :]
    return found


def test_found_D12_the_nodes_files_and_the_base_file_state_it(learned):
    problem, _, run = learned
    assert read_toml(run / "test.toml")["problem_type"] == problem
    assert read_toml(run / "base.toml")["problem_type"] == problem
    labels = [*LABELS] if problem == MULTI else ["LABEL_0"]
    assert read_toml(run / "test.toml")["labels"] == labels


def test_found_D12_merged_and_exported_they_are_opened_as_what_they_are(learned, tmp_path):
    problem, _, run = learned
    assert call("merge", run, tmp_path / "merged").status == 0
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["problem_type"] == problem
    assert call("export", run, tmp_path / "peft").status == 0
    card = (tmp_path / "peft" / "README.md").read_text()
    assert f"| problem type | {problem.replace('_', chr(92) + '_')} |" in card
    assert ("micro\\-F1" in card or "micro-F1" in card) if problem == MULTI else "R² on test rows" in card
    code = card.split("```python\n")[1].split("```")[0].replace("PeftModel.from_pretrained(base, '.')", "base")
    assert f"problem_type={problem!r}" in code

    node, rows = load_test_rows(run)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    (batch,) = _batches(rows)
    with torch.no_grad():
        theirs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.targets).loss
    assert theirs.item() == pytest.approx(json.loads(call("evaluate", run).out)["test_loss"], rel=1e-4)
    assert len(tokenizer) and node.data.problem_type == problem


def _batches(rows):
    from client.objectives.examples import eval_batches

    return eval_batches(rows, len(rows))


def test_found_D12_served_they_give_each_labels_probability_or_the_number(learned):
    problem, _, run = learned
    trained, limits = load_run(run), Limits()
    service = make_service(trained, Models(trained, run.name), limits)
    texts = [row["text"] for row in toy_rows(text="text")[:6]]
    with TestClient(make_app(service, None, limits), base_url="http://127.0.0.1:8000") as web:
        answer = web.post("/v1/classify", json={"model": "run", "input": texts}).json()["data"]
    ids = trained.base.tokenizer(texts, return_tensors="pt", padding=True)
    skeleton, lora = trained.attach()
    from client.model.lora import frozen_lane

    lora.lanes = [frozen_lane(trained.adapter, skeleton.device)]
    with torch.no_grad():
        logits = skeleton.model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).logits
    lora.lanes = ()
    for each, row in zip(answer, logits, strict=True):
        if problem == MULTI:
            expected = dict(zip(LABELS, row.sigmoid().tolist(), strict=True))
            assert each["probabilities"] == pytest.approx(expected, abs=1e-4)
            assert each["labels"] == [name for name, share in each["probabilities"].items() if share > 0.5]
            assert "label" not in each
        else:
            assert each["numbers"] == pytest.approx({"LABEL_0": row.item()}, abs=1e-4)
            assert not {"label", "probabilities"} & each.keys()
    if problem == MULTI:  # control: of one class the probabilities add up to 1
        assert any(abs(sum(each["probabilities"].values()) - 1) > 0.1 for each in answer)


@pytest.mark.parametrize("problem", [MULTI, REGRESSION])
@pytest.mark.parametrize("rule", ["server.algorithm=fedsgd", "server.algorithm=fedlin"])
def test_found_D12_rules_of_gradients_learn_too(problem, rule, tmp_path):
    more = ("server.mode=b",) if "fedlin" in rule else ("train.rounds=30", "train.steps=1", "train.batch=64")
    run = finished(tmp_path, ROWS[problem](), problem, *LEARN, rule, *more)[1]
    first, last = records(run)[0], records(run)[-1]
    assert last["test_loss"] < first["test_loss"]
    assert last[KEYS[problem]] > first[KEYS[problem]]
    assert max(each["aggregation_error"] for each in records(run)[1:] if each["aggregation_error"] is not None) < 1e-6


@pytest.mark.parametrize("problem", [MULTI, REGRESSION])
def test_found_D12_tables_have_them_too(problem, tmp_path):
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label"])
        for row in ROWS[problem]():
            value = row["label"]
            table.writerow([row["text"], ("|".join(value) or "[]") if problem == MULTI else value])
    ended, run = simulate(tmp_path, file, problem, *BRIEF)
    assert ended.status == 0, ended.err
    (tmp_path / "lines").mkdir()
    other = finished(tmp_path / "lines", ROWS[problem](), problem, *BRIEF)[1]
    assert records(run)[-1]["test_loss"] == records(other)[-1]["test_loss"]


@pytest.mark.parametrize("problem", [MULTI, REGRESSION])
def test_found_D12_rows_are_not_dealt_out_by_a_class_that_they_have_not(problem, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", ROWS[problem]())
    told = refusal(simulate(tmp_path, file, problem)[0])
    assert 'partition = "dirichlet" deals out rows by their class' in told
    assert 'use "iid"' in told


@pytest.mark.parametrize("problem", [MULTI, REGRESSION])
def test_found_D12_a_head_of_class_sums_is_refused_with_the_reason(problem, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", ROWS[problem]())
    ended, _ = simulate(tmp_path, file, problem, *BRIEF, "lora.head=lda")
    assert ended.status == 2
    assert f'sums of features by class, and with problem_type = "{problem}" rows have not one class each' in ended.err
    assert 'set head = "trained"' in ended.err


@pytest.mark.parametrize(
    ("problem", "rows", "reason"),
    [
        (None, label_sets, 'set problem_type = "multi_label_classification"'),
        (None, numbers, 'set problem_type = "regression"'),
        (REGRESSION, lambda: toy_rows(text="text", label="label"), 'set problem_type = "single_label_classification"'),
        (REGRESSION, label_sets, "which is no number"),
        (MULTI, numbers, "which is no whole number"),
    ],
)
def test_found_D12_rows_of_another_kind_are_refused_with_the_remedy(problem, rows, reason, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", rows())
    told = refusal(simulate(tmp_path, file, problem, *BRIEF)[0])
    assert f"{file}, line " in told
    assert reason in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("problem", [MULTI, REGRESSION])
def test_found_D12_the_bases_own_problem_type_is_taken(problem, tmp_path):
    rows = ROWS[problem]()
    base = own_base(tmp_path, LABELS if problem == MULTI else ["score"], problem)
    ended, run = finished(tmp_path, rows, None, *BRIEF, f"base.path={base}")
    node = read_toml(run / "test.toml")
    assert node["problem_type"] == problem
    assert node["labels"] == ([*LABELS] if problem == MULTI else ["score"])
    assert "was trained for" not in ended.err


@pytest.mark.parametrize("named", [True, False])
def test_found_D12_zeros_and_ones_have_the_names_of_the_heads_outputs(named, tmp_path, caplog):
    rows = [{**row, "label": [int(name in row["label"]) for name in LABELS]} for row in label_sets()]
    base = own_base(tmp_path, LABELS, MULTI) if named else tiny_base("bert")
    run = finished(tmp_path, rows, None if named else MULTI, *BRIEF, f"base.path={base}")[1]
    names = LABELS if named else ("LABEL_0", "LABEL_1", "LABEL_2")
    assert read_toml(run / "test.toml")["labels"] == [*names]
    assert "taken for" not in caplog.text


def own_base(folder, classes, problem):
    """Write a base whose head has these outputs and was trained for that."""
    base = with_own_head(folder / "base", classes)
    config = json.loads((base / "config.json").read_text()) | {"problem_type": problem}
    (base / "config.json").write_text(json.dumps(config))
    return base


def test_found_D12_a_head_that_was_trained_for_another_problem_type_is_said(tmp_path, caplog):
    base = own_base(tmp_path, LABELS, SINGLE)
    run = finished(tmp_path, label_sets(), MULTI, *BRIEF, f"base.path={base}")[1]
    assert f"was trained for {SINGLE}, and is used for {MULTI}" in caplog.text
    assert f'set problem_type = "{SINGLE}"' in caplog.text
    caplog.clear()
    (tmp_path / "new").mkdir()
    other = finished(tmp_path / "new", label_sets(), MULTI, *BRIEF, f"base.path={base}", "base.head=new")[1]
    assert "was trained for" not in caplog.text  # control: a new head was trained for nothing
    prints = [read_toml(each / "base.toml")["fingerprint"] for each in (run, other)]
    assert len({*prints}) == 2


def test_found_D12_a_head_of_one_output_is_answered_with_regression(tmp_path):
    base = with_own_head(tmp_path / "base", ["only"])
    file = write_rows(tmp_path / "rows.jsonl", toy_rows(text="text", label="label"))
    told = " ".join(refusal(simulate(tmp_path, file, None, *BRIEF, f"base.path={base}")[0]).split())
    assert 'problem_type = "regression" if the labels are numbers' in told


def test_found_D12_a_run_made_before_has_its_settings_hash_and_fingerprint(tmp_path):
    rows = toy_rows(text="text", label="label")
    file = write_rows(tmp_path / "rows.jsonl", rows)
    recipe = write_recipe(tmp_path, file)
    words = settings(*BRIEF)
    assert call("simulate", recipe, "--out", tmp_path, "--name", "run", *words).status == 0
    run = tmp_path / "run"
    before, base = entries(run), read_toml(run / "base.toml")
    assert "problem_type" not in base
    for path in (run / "config.toml", *run.glob("**/*.toml")):  # as an earlier release wrote them
        path.write_text(re.sub(r"(?m)^problem_type = .*\n", "", path.read_text()))
    ended = call("simulate", recipe, "--resume", run, *words)
    assert ended.status == 0, ended.err
    assert entries(run) == before
    assert call("evaluate", run).status == 0
    for problem in ("auto", SINGLE):  # what such a run did, said in words
        (tmp_path / problem).mkdir()
        same = finished(tmp_path / problem, rows, problem, *BRIEF)[1]
        assert entries(same)[0]["base"] == before[0]["base"]
    (tmp_path / "sets").mkdir()
    sets = [{**row, "label": [row["label"]]} for row in rows]
    other = finished(tmp_path / "sets", sets, MULTI, *BRIEF)[1]
    assert entries(other)[0]["base"] != before[0]["base"]  # control
    assert "problem_type" in refusal(
        call("simulate", recipe, "--resume", run, *words, "--set", f"data.problem_type={MULTI}")
    )


def test_found_D12_check_and_init_show_and_propose_it(tmp_path):
    for problem, rows in ROWS.items():
        file = write_rows(tmp_path / f"{problem}.jsonl", rows())
        shown = call("check", file).out
        assert f'problem_type = "{problem}"' in shown
        recipe = tmp_path / f"{problem}.toml"
        assert call("init", "recipe", recipe, "--data", file, "--base", "tiny:bert", "--yes").status == 0
        assert read_toml(recipe)["data"]["problem_type"] == problem
        assert read_toml(recipe)["clients"]["partition"] == "iid"
        checked = call("check", recipe).out
        if problem == MULTI:
            assert "labels a row: 1.82 on average, 3 at most; 8 rows without one" in checked
            assert "target: animal, place, thing" in checked
            assert "would be right" not in checked
        else:
            assert re.search(r"(?m)^all +-1\.\d+ +-?\d\S* +\d\.\d+ +1$", checked)
            assert re.search(r"(?m)^target: -?\d+\.\d+$", checked)
            assert "Labels" not in checked


def test_found_D12_numbers_far_from_zero_are_advised_to_be_scaled(tmp_path):
    rows = [{**row, "label": row["label"] * 100 + 1000} for row in numbers()]
    recipe = write_recipe(tmp_path, write_rows(tmp_path / "rows.jsonl", rows), problem_type=REGRESSION)
    words = ("check", recipe, "--set", "clients.partition=iid")
    assert "scale the numbers of 'label' to about -1 to 1, alike at all nodes" in call(*words).out
    small = write_recipe(tmp_path, write_rows(tmp_path / "small.jsonl", numbers()), problem_type=REGRESSION)
    assert "scale" not in call("check", small, "--set", "clients.partition=iid").out  # control


def test_found_D12_a_node_of_one_number_needs_no_labels(tmp_path):
    import tomli_w

    write_rows(tmp_path / "rows.jsonl", numbers())
    node = {
        "name": "clinic",
        "rank": 2,
        "base": str(tiny_base("bert")),
        "data": "rows.jsonl",
        "problem_type": REGRESSION,
    }
    (tmp_path / "node.toml").write_text(tomli_w.dumps(node))
    ended = call("client", tmp_path / "node.toml", "--check", "--describe", tmp_path / "base.toml")
    assert ended.status == 0, ended.err
    assert "task classification, regression" in ended.out
    described = read_toml(tmp_path / "base.toml")
    assert (described["problem_type"], described["labels"]) == (REGRESSION, ["LABEL_0"])
