import pytest
import torch
from peft import PeftModel
from tensorboardX.proto.event_pb2 import Event
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from client.data.files.source import read_rows
from common.settings.node import NodeFile
from common.settings.reader import parse_settings, read_toml
from common.settings.recipe import Recipe
from simulations.recipe import read_recipe
from simulations.tiny_base import tiny_base
from tests.helpers.end_to_end.command import TINY
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.runs import BRIEF, entries, hashes, records, run_tiny, same_result, weights
from tests.simulations.conftest import LEARNING, RESUMED

ROUND = {
    "round": int,
    "seconds": float,
    "test_loss": float,
    "test_accuracy": float,
    "residual": float,
    "rank_global": int,
    "bytes_up": int,
    "bytes_down": int,
    "clients": list,
}
CLIENT = {
    "name": str,
    "rank": int,
    "examples": int,
    "tokens": int,
    "loss_before": float,
    "loss_after": float,
    "bytes_up": int,
    "bytes_down": int,
    "status": str,
}


def test_the_last_line_names_the_run(finished):
    lines = finished.ended.out.splitlines()
    assert lines[-1] == f"run: {finished.run}"
    assert [line.split()[0] for line in lines] == ["3", "round", "round", "round", "round", "run:"]


def test_a_pipe_gets_plain_lines(finished):
    assert not {"\x1b", "\r"} & set(finished.ended.out + finished.ended.err)


def test_the_folder_holds_all_that_is_promised(finished):
    names = {path.name for path in finished.run.iterdir()}
    assert names >= {"config.toml", "metrics.jsonl", "journal", "adapter", "nodes", "tensorboard", "report.html"}


def test_config_is_the_resolved_recipe(finished):
    written = parse_settings(Recipe, read_toml(finished.run / "config.toml"), "config.toml")
    assert written == read_recipe(TINY, list(LEARNING))
    assert written != read_recipe(TINY, [*LEARNING, "seed=2"])


def test_metrics_hold_every_round_with_every_field(finished):
    rounds = records(finished.run)
    assert [record["round"] for record in rounds] == [0, 1, 2, 3]
    for record in rounds:
        assert {key: type(record[key]) for key in ROUND} == ROUND
        assert len(record["clients"]) == 6
        for client in record["clients"]:
            before = {"loss_before": type(None)} if record["round"] == 0 else {}
            assert {key: type(client[key]) for key in CLIENT} == CLIENT | before
            assert client["status"] == "ok"
            assert client["reason"] is None


def test_traffic_adds_up_and_grows_with_the_rank(finished):
    for record in records(finished.run)[1:]:
        for way in ("bytes_up", "bytes_down"):
            assert record[way] == sum(client[way] for client in record["clients"])
        ups = [client["bytes_up"] for client in sorted(record["clients"], key=lambda client: client["rank"])]
        assert ups == sorted(ups)
        assert len(set(ups)) == 6


def test_it_learns(finished):
    first, *_, last = records(finished.run)
    assert first["test_accuracy"] == pytest.approx(0.25)
    assert last["test_loss"] < first["test_loss"] - 0.2
    assert last["test_accuracy"] > 0.45
    before, after = ([client["loss_after"] for client in record["clients"]] for record in (first, last))
    assert sum(after) < sum(before)


def test_every_round_is_exact_at_mixed_ranks(finished):
    first, *trained = records(finished.run)
    assert first["aggregation_error"] is None
    assert {client["rank"] for client in trained[0]["clients"]} == {1, 2, 4, 8, 16, 32}
    assert all(0 <= record["aggregation_error"] <= 1e-6 for record in trained)


def test_an_inexact_rule_shows_in_the_aggregation_error(tmp_path):
    trained = records(run_tiny(tmp_path, *BRIEF, "server.algorithm=hetlora"))[1:]
    assert all(record["aggregation_error"] > 1e-3 for record in trained)


def test_the_journal_names_the_update_of_each_round(finished):
    assert len(set(hashes(finished.run))) == 4
    assert all(len(entry["adapter_hash"]) == 64 for entry in entries(finished.run))
    assert [entry["metrics"] for entry in entries(finished.run)] == records(finished.run)


def test_each_client_has_a_file_and_its_rows(finished):
    files = sorted((finished.run / "nodes").glob("*.toml"))
    nodes = [parse_settings(NodeFile, read_toml(file), str(file)) for file in files]
    assert [node.rank for node in nodes] == [1, 2, 4, 8, 16, 32]
    shards = [len(read_rows(finished.run / "nodes" / node.data)) for node in nodes]
    assert sum(shards) == 400 - 80
    assert len(read_rows(finished.run / "test.jsonl")) == 80


def test_the_adapter_gives_peft_the_accuracy_of_the_run(finished):
    folder = tiny_base("bert")
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4)
    plain, rows = _accuracy(base, folder, finished.run)
    adapted, _ = _accuracy(PeftModel.from_pretrained(base, finished.run / "adapter"), folder, finished.run)
    assert adapted == pytest.approx(records(finished.run)[-1]["test_accuracy"], abs=1.01 / rows)
    assert plain < adapted - 0.1


@torch.no_grad()
def _accuracy(model, folder, run):
    node = parse_settings(NodeFile, read_toml(run / "test.toml"), "test.toml")
    rows = [row.fields for row in read_rows(run / "test.jsonl")]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    right = model.eval()(**inputs).logits.argmax(-1) == torch.tensor([node.labels.index(row["label"]) for row in rows])
    return right.float().mean().item(), len(rows)


def test_the_report_is_one_page_with_figures(finished):
    page = read_page(finished.run / "report.html")
    assert page.outside == []
    assert page.misnested == []
    assert "url(http" not in page.html
    assert page.tags.count("svg") >= 4
    assert hashes(finished.run)[-1] in page.text


def test_tensorboard_has_every_round_however_short(tmp_path):
    run = run_tiny(tmp_path, *BRIEF, "train.rounds=4", "train.steps=1")
    points = {(event.step, value.tag) for event in _events(run) for value in event.summary.value}
    assert {step for step, tag in points if tag == "test_loss"} == {0, 1, 2, 3, 4}
    assert {step for step, tag in points if tag == "aggregation_error"} == {1, 2, 3, 4}


def _events(run):
    for file in (run / "tensorboard").iterdir():
        data, at = file.read_bytes(), 0
        while at < len(data):  # each record: length (8 bytes), its checksum (4), the event, its checksum (4)
            size = int.from_bytes(data[at : at + 8], "little")
            yield Event.FromString(data[at + 12 : at + 12 + size])
            at += size + 16


def test_two_workers_give_the_bits_of_one(undisturbed, tmp_path):
    assert same_result(undisturbed, run_tiny(tmp_path, *RESUMED, "workers=2"))


def test_another_seed_gives_another_result(tmp_path):
    one, other = (run_tiny(tmp_path, *BRIEF, f"seed={seed}", name=str(seed)) for seed in (1, 2))
    assert hashes(one)[0] == hashes(other)[0]  # nothing is trained yet
    assert all(a != b for a, b in zip(hashes(one)[1:], hashes(other)[1:], strict=True))
    assert weights(one) != weights(other)
