import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.huggingface.peft_folder import read_peft_folder
from tests.helpers.simulations.runs import (
    BRIEF,
    hashes,
    records,
    run_tiny,
    same_result,
    toy_rows,
    weights,
    write_recipe,
)

LANGUAGE = ("data.task=causal-lm", "clients.partition=iid")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("plain"), *BRIEF)


def exact(run):
    """Return whether all rounds were committed and exact, with all clients in."""
    trained = records(run)[1:]
    statuses = {client["status"] for record in trained for client in record["clients"]}
    return len(trained) == 2 and statuses == {"ok"} and all(record["aggregation_error"] <= 1e-6 for record in trained)


def test_mode_b_sends_b_alone(tmp_path, plain):
    run = run_tiny(tmp_path, *BRIEF, "server.mode=b")
    assert exact(run)
    assert records(run)[1]["bytes_up"] < 0.7 * records(plain)[1]["bytes_up"]


def test_each_start_of_a_leads_elsewhere(tmp_path, plain):
    fresh, gaussian = (run_tiny(tmp_path, *BRIEF, f"server.a={a}", name=a) for a in ("fresh", "gaussian"))
    assert exact(fresh)
    assert exact(gaussian)
    assert len({hashes(run)[2] for run in (plain, fresh, gaussian)}) == 3
    assert hashes(plain)[1] == hashes(fresh)[1]  # before the first round there is no direction to keep
    assert hashes(plain)[1] != hashes(gaussian)[1]


@pytest.mark.slow
@pytest.mark.parametrize("a", ["fresh", "gaussian"])
def test_each_start_of_a_in_mode_b(tmp_path, a):
    assert exact(run_tiny(tmp_path, *BRIEF, "server.mode=b", f"server.a={a}"))


@pytest.mark.parametrize(
    "settings", [("server.algorithm=fedit", "clients.ranks=[4]"), ("server.algorithm=hetlora",)], ids=["fedit", "het"]
)
def test_averaging_rules_run(tmp_path, settings):
    trained = records(run_tiny(tmp_path, *BRIEF, *settings))[1:]
    assert [len(record["clients"]) for record in trained] == [4, 4]
    assert all(record["aggregation_error"] > 1e-6 for record in trained)


@pytest.mark.parametrize("base", ["gpt2", "llama"])
def test_a_language_model_learns_completions(tmp_path, base):
    run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, f"base.path=tiny:{base}", "train.steps=6")
    first, *_, last = records(run)
    assert exact(run)
    assert last["test_loss"] < first["test_loss"] - 0.05
    assert last["test_accuracy"] is None


@pytest.mark.parametrize(
    "base",
    ["gpt2", "deberta", pytest.param("roberta", marks=pytest.mark.slow), pytest.param("llama", marks=pytest.mark.slow)],
)
def test_each_kind_of_base_learns_to_classify(tmp_path, base):
    run = run_tiny(tmp_path, *BRIEF, f"base.path=tiny:{base}", "train.rounds=2", "train.steps=6")
    assert exact(run)
    assert len(set(hashes(run))) == 3
    assert records(run)[0]["test_loss"] == pytest.approx(1.386, abs=1e-3)  # ln 4: a new head knows nothing


@pytest.mark.parametrize(
    ("targets", "count", "ending"),
    [
        ('["query", "embeddings.word_embeddings"]', 3, ("query", "word_embeddings")),
        (r"bert\.encoder\.layer\.0\..*dense", 3, ("dense",)),
        ("all-linear", 13, ("query", "key", "value", "dense")),
    ],
)
def test_targets(tmp_path, targets, count, ending):
    run = run_tiny(tmp_path, *BRIEF, f"lora.targets={targets}")
    stored = read_peft_folder(run / "adapter")
    assert exact(run)
    assert len(stored.adapter) == count
    assert all(name.endswith(ending) for name in stored.adapter)
    assert set(stored.saved) == {"classifier.weight", "classifier.bias"}


def test_dropout_changes_the_result_and_checkpointing_does_not(tmp_path, plain):
    dropped = run_tiny(tmp_path, *BRIEF, "lora.dropout=0.2", name="dropped")
    checkpointed = run_tiny(tmp_path, *BRIEF, "train.checkpointing=true", name="checkpointed")
    assert exact(dropped)
    assert weights(dropped) != weights(plain)
    assert weights(checkpointed) == weights(plain)


def test_accumulation_takes_more_rows_a_step(tmp_path):
    runs = [run_tiny(tmp_path, *BRIEF, "train.batch=8", f"train.accumulate={n}", name=str(n)) for n in (1, 2)]
    once, twice = (sum(client["examples"] for client in records(run)[1]["clients"]) for run in runs)
    assert exact(runs[1])
    assert 1.7 * once < twice <= 2 * 4 * 3 * 8


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_half_size_base(tmp_path, plain, dtype):
    run = run_tiny(tmp_path, *BRIEF, f"base.dtype={dtype}")
    assert exact(run)
    assert weights(run) != weights(plain)
    assert records(run)[2]["test_loss"] == pytest.approx(records(plain)[2]["test_loss"], abs=0.05)


def test_clients_by_a_column_bear_its_values(tmp_path):
    run = run_tiny(tmp_path, *BRIEF, "clients.partition=column", "clients.column=label")
    assert [client["name"] for client in records(run)[1]["clients"]] == ["farm", "harbour", "kitchen", "station"]
    assert exact(run)


@pytest.mark.slow
def test_an_even_split(tmp_path):
    run = run_tiny(tmp_path, *BRIEF, "clients.partition=iid", "server.weights=uniform")
    assert exact(run)
    assert [client["rows"] for client in records(run)[1]["clients"]] == [95] * 4
    assert [client["share"] for client in records(run)[1]["clients"]] == [0.25] * 4


def test_a_cohort_is_drawn_anew_each_round(tmp_path):
    run = run_tiny(tmp_path, *BRIEF, "server.cohort=2", "clients.count=8", "train.rounds=4", "train.steps=1")
    cohorts = [tuple(client["name"] for client in record["clients"]) for record in records(run)[1:]]
    assert {len(cohort) for cohort in cohorts} == {2}
    assert len(set(cohorts)) > 1
    assert all(record["aggregation_error"] <= 1e-6 for record in records(run)[1:])


def test_a_cap_on_the_rank_is_reported(tmp_path, plain):
    run = run_tiny(tmp_path, *BRIEF, "server.rank_global=2", "server.rank_kept=3")
    assert exact(run)
    last = records(run)[2]
    assert last["rank_global"] == 2
    assert last["residual"] > 1e-3
    assert last["dropped"] > 1e-3
    assert records(plain)[2]["dropped"] == 0


def test_rows_that_are_cut_give_the_same_bits_with_many_workers(tmp_path):
    cut = (*BRIEF, "data.max_length=6", "clients.count=8")
    one, many = (run_tiny(tmp_path, *cut, f"workers={count}", name=str(count)) for count in (1, 4))
    assert same_result(one, many)


def test_without_test_rows_the_nodes_own_loss_remains(tmp_path):
    run = run_tiny(tmp_path, *BRIEF, "data.test_rows=0")
    assert exact(run)
    assert all(record["test_loss"] is None and record["test_accuracy"] is None for record in records(run))
    assert all(client["loss_after"] > 0 for record in records(run) for client in record["clients"])
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_alpha_and_schedule_change_the_result(tmp_path, plain):
    settings = ("lora.alpha=16", "train.schedule=linear")
    results = {weights(run_tiny(tmp_path, *BRIEF, setting, name=setting)) for setting in settings}
    assert len(results | {weights(plain)}) == 3


def as_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_csv(path, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def as_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("write", [as_jsonl, as_csv, as_parquet])
def test_rows_of_ones_own_give_the_bits_of_the_same_corpus(tmp_path, plain, write):
    file = tmp_path / f"rows.{write.__name__.removeprefix('as_')}"
    write(file, toy_rows(text="sentence", label="place", prompt="unused"))
    recipe = write_recipe(tmp_path, file, text="sentence", label="place")
    assert same_result(run_tiny(tmp_path, *BRIEF, recipe=recipe), plain)


def test_chats_are_learned_through_the_template(tmp_path):
    rows = toy_rows(prompt="prompt", completion="completion")
    as_jsonl(tmp_path / "chats.jsonl", [{"turns": [_turn("user", r), _turn("assistant", r)]} for r in rows])
    recipe = write_recipe(tmp_path, tmp_path / "chats.jsonl", messages="turns")
    run = run_tiny(tmp_path, *BRIEF, *LANGUAGE, "base.path=tiny:llama", "data.max_length=96", recipe=recipe)
    assert exact(run)
    assert records(run)[2]["test_loss"] < records(run)[0]["test_loss"] - 0.05


def _turn(role, row):
    return {"role": role, "content": row["prompt" if role == "user" else "completion"].strip()}
