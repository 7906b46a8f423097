"""Whole runs with nodes in memory: what is asked, and what is written."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from common.adapters.adapter import zeros
from common.adapters.codec import decode_adapter
from common.adapters.joined import split_adapters
from common.settings.recipe import Train
from server.metrics.rounds import TestScore
from server.rounds.evaluation import Test
from server.rounds.log_line import adapter_hash
from server.rounds.observer import RunObserver
from server.rounds.run_settings import learning_rates
from tests.helpers.server.exchange import SHAPES, MemoryExchange, NumpyNode, Recorded, dense
from tests.helpers.server.runs import FOUR, Each, clients, fresh, hashes, plan, run

FIELDS = (
    "round seconds test_loss test_accuracy aggregation_error residual dropped rank_global agreement "
    "bytes_up bytes_down clients"
)
CLIENT = "name rank rows predictions skipped examples tokens loss_before loss_after bytes_up bytes_down bytes_by_part"
CLIENT += " share update norm clip same_as status reason"


# --- what is written ---


def test_round_0_is_before_training(tmp_path):
    messenger = Recorded(FOUR)
    first = run(tmp_path, messenger, plan(1))[0]
    assert first["metrics"]["round"] == 0
    assert first["metrics"]["aggregation_error"] is None
    assert (first["metrics"]["residual"], first["metrics"]["rank_global"]) == (0.0, 0)
    for node in FOUR:
        assert clients(first)[node.name]["loss_after"] == node.loss(zeros(SHAPES))
        assert clients(first)[node.name]["loss_before"] is None
    assert [kind for kind, *_ in messenger.asked[:3]] == ["query", "evaluate", "train"]


@pytest.mark.parametrize("algorithm", ["increments", "hetlora", "fedsgd"])
def test_a_record_has_these_fields(algorithm, tmp_path):
    observer, records = RunObserver(), []
    observer.on_round_committed = records.append
    entries = run(tmp_path, fresh(), plan(2, algorithm=algorithm), observer)
    assert [entry["metrics"] for entry in entries] == json.loads(json.dumps(records, allow_nan=False))
    for record in records:
        assert list(record) == FIELDS.split()
        assert all(list(client) == CLIENT.split() for client in record["clients"])
        assert [client["name"] for client in record["clients"]] == ["ada", "bob", "cyd", "eve"]


def test_found_B1_nodes_of_a_run_that_has_begun_are_told_its_modules(tmp_path):
    first, later = Recorded(FOUR), Recorded(FOUR)
    run(tmp_path, first, plan(1))
    assert "begun" not in first.payloads["query", 0, "ada"].values
    run(tmp_path, later, plan(1))
    assert later.payloads == {}  # nothing is left to do
    log = next(tmp_path.rglob("log.jsonl"))
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    run(tmp_path, later, plan(1))
    assert later.payloads["query", 0, "ada"].values["begun"] == list(SHAPES)


def test_a_client_record_says_what_it_sent(tmp_path):
    messenger = Recorded(FOUR)
    entries = run(tmp_path, messenger, plan(2))
    for number, entry in enumerate(entries[1:], 1):
        rows = clients(entry)
        for node in FOUR:
            record, reply = rows[node.name], messenger.replies["train", number, node.name]
            assert (record["rank"], record["rows"], record["status"]) == (node.rank, node.rows, "ok")
            assert (record["examples"], record["tokens"]) == (node.rows, 7 * node.rows)
            assert record["share"] == node.rows / 75
            assert record["bytes_up"] == len(reply.blob)
            kinds = [messenger.payloads[kind, number, node.name] for kind in ("train", "evaluate")]
            assert record["bytes_down"] == sum(payload.size for payload in kinds)
        for side in ("bytes_up", "bytes_down"):
            assert entry["metrics"][side] == sum(record[side] for record in rows.values()) > 0


@pytest.mark.parametrize("weights", ["examples", "tokens", "uniform"])
def test_shares_follow_the_rule_of_weights(weights, tmp_path):
    entry = run(tmp_path, fresh(), plan(1, weights=weights))[1]
    shares = [1 / 4] * 4 if weights == "uniform" else [node.rows / 75 for node in FOUR]
    assert [clients(entry)[node.name]["share"] for node in FOUR] == pytest.approx(shares)
    assert sum(shares) == pytest.approx(1)


def test_a_loss_before_is_the_loss_after_of_the_round_before(tmp_path):
    entries = run(tmp_path, fresh(), plan(4))
    for before, after in pairwise(entries):
        for name, record in clients(after).items():
            assert record["loss_before"] == clients(before)[name]["loss_after"] != record["loss_after"]


def test_the_aggregation_error_is_the_dense_truth_of_what_was_on_the_wire(tmp_path):
    messenger, states = Recorded(FOUR), []

    def keep(number):
        blob = (tmp_path / f"round-{number:06d}.state").read_bytes()
        states.append({name: dense(factors) for name, factors in split_adapters(decode_adapter(blob))["mass"].items()})

    entries = run(tmp_path, messenger, plan(3), Each(committed=keep))
    for number in (1, 2, 3):
        sent = [(node.rows / 75, decode_adapter(messenger.replies["train", number, node.name].blob)) for node in FOUR]
        error = truth = 0.0
        for name in SHAPES:
            delta = sum(share * dense(update[name]) for share, update in sent)
            error += np.sum((states[number][name] - states[number - 1][name] - delta) ** 2)
            truth += np.sum(delta**2)
        assert np.sqrt(error / truth) <= 1e-6
        assert entries[number]["metrics"]["aggregation_error"] <= 1e-6


def test_an_inexact_rule_shows_in_the_record(tmp_path):
    for entry in run(tmp_path, fresh(), plan(3, algorithm="hetlora"))[1:]:
        assert entry["metrics"]["aggregation_error"] > 0.1


def test_test_rows_are_measured_on_each_broadcast(tmp_path):
    seen = []

    def measure(adapter):
        seen.append(adapter_hash(adapter))
        return TestScore(len(seen) / 10, {"accuracy": 0.5})

    entries = run(tmp_path, fresh(), plan(2), test=Test(0, measure))
    assert seen == hashes(entries)
    assert [entry["metrics"]["test_loss"] for entry in entries] == [0.1, 0.2, 0.3]
    assert {entry["metrics"]["test_accuracy"] for entry in entries} == {0.5}


def test_rounds_between_evaluations_have_no_losses_and_the_same_updates(tmp_path):
    messenger, measured = fresh(), []
    test = Test(0, lambda adapter: measured.append(adapter_hash(adapter)) or TestScore(0.5))
    entries = run(tmp_path / "some", messenger, plan(5, evaluate_every=2), test=test)
    every = run(tmp_path / "every", fresh(), plan(5, evaluate_every=1))
    assert hashes(entries) == hashes(every)
    asked = {number for kind, number, _ in messenger.asked if kind == "evaluate"}
    assert asked == {0, 2, 4, 5}
    assert measured == [hashes(entries)[number] for number in (0, 2, 4, 5)]
    for entry in entries:
        record, number = entry["metrics"], entry["metrics"]["round"]
        losses = [client["loss_after"] for client in record["clients"]]
        assert {loss is None for loss in losses} == {record["test_loss"] is None} == {number in (1, 3)}
    befores = [entry["metrics"]["clients"][0]["loss_before"] is None for entry in entries]
    assert befores == [True, False, True, False, True, False]


def test_a_run_evaluated_at_other_rounds_resumes_to_the_same_updates(tmp_path):
    def stop(number):
        if number == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(tmp_path / "cut", fresh(), plan(5, evaluate_every=1), Each(committed=stop))
    resumed = run(tmp_path / "cut", fresh(), plan(5, evaluate_every=3))
    assert hashes(resumed) == hashes(run(tmp_path / "whole", fresh(), plan(5)))
    assert [entry["metrics"]["clients"][0]["loss_after"] is None for entry in resumed] == [False] * 4 + [True, False]


def test_a_loss_that_is_not_finite_is_left_out(tmp_path):
    messenger = fresh()
    lost = {"ada": float("nan"), "bob": "low", "cyd": float("inf")}
    messenger.tamper = lambda name, kind, number, reply: (
        replace(reply, values={"loss": lost[name]}) if kind == "evaluate" and name in lost else reply
    )
    for entry in run(tmp_path, messenger, plan(2)):
        losses = {name: record["loss_after"] for name, record in clients(entry).items()}
        assert losses.pop("eve") > 0
        assert set(losses.values()) == {None}


# --- what is asked ---


def test_an_order_names_run_round_parent_and_base(tmp_path):
    messenger = Recorded(FOUR)
    entries = run(tmp_path, messenger, plan(3, config="these settings"))
    for number in (1, 2, 3):
        round_id = {"run": "these settings", "round": number, "base": "base", "attempt": 1}
        train, evaluate = (messenger.payloads[kind, number, "ada"].values for kind in ("train", "evaluate"))
        assert train.items() >= (round_id | {"parent": hashes(entries)[number - 1]}).items()
        assert evaluate.items() >= (round_id | {"parent": hashes(entries)[number]}).items()


def test_an_assignment_carries_the_training(tmp_path):
    messenger = Recorded(FOUR)
    settings = plan(2, alpha=16.0, mode="b")
    train = Train(rounds=2, steps=3, batch=5, lr=0.1, clip=0.7, accumulate=2, checkpointing=True, warmup=1)
    run(tmp_path, messenger, replace(settings, train=train, lora=replace(settings.lora, dropout=0.1)))
    values = messenger.payloads["train", 2, "eve"].values
    expected = {"batch": 5, "clip": 0.7, "accumulate": 2, "checkpointing": True, "dropout": 0.1, "seed": 7, "round": 2}
    expected |= {"cohort": 4}
    assert values.items() >= (expected | {"trains": "b", "scaling": 4.0}).items()
    assert values["learning_rates"] == list(learning_rates(train, 2))
    assert messenger.payloads["query", 0, "eve"].values == {
        **{"targets": "query-value", "base": "base"},
        "run": settings.config,
    }


def test_clients_of_one_rank_get_the_same_bytes(tmp_path):
    messenger = Recorded([*FOUR, NumpyNode("fay", 4)])
    run(tmp_path, messenger, plan(1))
    blobs = {name: messenger.payloads["train", 1, name].blob for name in ("ada", "eve", "fay")}
    assert blobs["eve"] is blobs["fay"] != blobs["ada"]


def test_clients_learn(tmp_path):
    """The nodes' own losses fall, so that the exchange in these tests trains in earnest."""
    settings = replace(plan(12), train=Train(rounds=12, steps=10, lr=0.05, schedule="linear"))
    for name in ("ada", "eve"):
        node = next(node for node in FOUR if node.name == name)
        entries = run(tmp_path / name, MemoryExchange([node]), settings)
        losses = [clients(entry)[name]["loss_after"] for entry in entries]
        assert losses[-1] < 0.2 * losses[0]
        assert all(after < before for before, after in pairwise(losses))
