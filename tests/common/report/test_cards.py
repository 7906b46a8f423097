import pytest

from common.report.cards import cards
from common.report.history import add_up
from tests.helpers.simulations.metrics import client, record, rounds


def found(records, chance=None, full_bytes=None, perplexity=False):
    return {card.label: card for card in cards(add_up(records), chance, full_bytes, perplexity)}


def test_accuracy_and_loss_go_from_the_first_to_the_last_round():
    card = found(rounds(3), chance=1 / 15)["Accuracy"]
    assert (card.value, card.note, card.good) == ("7.0% → 13.0%", "of the test rows; chance is 6.7%", True)
    assert found(rounds(3))["Loss"].value == "2.700 → 2.400"


@pytest.mark.parametrize(("last", "good"), [(0.1, True), (0.07, None), (0.05, False)])
def test_an_accuracy_that_falls_is_marked(last, good):
    assert found([*rounds(1), record(2, [], test_accuracy=last)])["Accuracy"].good is good


def test_a_language_model_has_perplexity_and_no_accuracy():
    records = rounds(2, test_accuracy=None, test_loss=1.0)
    assert found(records, perplexity=True)["Perplexity"].value == "2.72 → 2.72"
    assert "Accuracy" not in found(records)
    assert "Perplexity" not in found(records)


def test_without_a_test_set_the_clients_own_rows_speak():
    card = found(rounds(2, test_loss=None, test_accuracy=None))["Loss"]
    assert (card.value, card.note) == ("2.800 → 2.600", "clients' own held-out rows, nats")


def test_without_any_loss_there_is_no_card():
    silent = [record(r, [client(0, r, loss_before=None, loss_after=None)], test_loss=None) for r in range(3)]
    assert "Loss" not in found(silent)


def test_rounds_and_clients():
    cards_found = found(rounds(3))
    assert (cards_found["Rounds"].value, cards_found["Rounds"].note) == ("3", "in 40.0 s")
    assert (cards_found["Clients"].value, cards_found["Clients"].note) == ("4", "ranks 2 to 16")
    assert found(rounds(3, clients=1))["Clients"].note == "rank 2"


def test_traffic_is_a_mean_over_the_clients_that_took_part():
    absent = client(1, 1, status="absent", bytes_up=0, bytes_down=0)
    records = [record(0, [client(0, 0)]), record(1, [client(0, 1), absent])]
    card = found(records, full_bytes=20_000)["Traffic"]
    assert card.value == "4 kB"
    assert card.note == "a client a round: 1 kB up, 3 kB down; the full model would be 10 times that"


def test_a_run_without_training_has_no_traffic_and_no_aggregation_error():
    assert {"Traffic", "Worst aggregation error"} <= set(found(rounds(1)))
    assert not {"Traffic", "Worst aggregation error"} & set(found(rounds(0)))


@pytest.mark.parametrize(("worst", "exact"), [(0.0, True), (1e-6, True), (1.1e-6, False)])
def test_the_worst_aggregation_error_is_exact_up_to_its_bound(worst, exact):
    card = found(
        [
            *rounds(3, aggregation_error=0.0),
            record(4, [], aggregation_error=worst),
            record(5, [], aggregation_error=0.0),
        ]
    )["Worst aggregation error"]
    assert card.good is exact
    assert card.note.startswith("exact") is exact


HEAD = {"kind": "lda", "lambda": 1e-3, "temperature": 2.0, "loss": 1.3, "loss_trained": 2.7, "kept": True}


def with_heads(*heads):
    return [record(number, [client(0, number)]) | ({"head": head} if head else {}) for number, head in enumerate(heads)]


def test_the_last_head_that_is_kept_is_told():
    card = found(with_heads(HEAD, None, HEAD | {"kept": False, "loss": 1.5}))["Head"]
    assert (card.value, card.good) == ("lda, λ 0.001, T 2", True)
    assert card.note == "held-out loss 1.300, of the trained one 2.700"
    assert found(with_heads(HEAD | {"kept": False}))["Head"].good is False
    assert "Head" not in found(rounds(2))


def test_a_head_that_was_not_made_is_told():
    few = found(with_heads({"kind": "lda", "kept": False, "reason": "quorum"}))["Head"]
    assert (few.value, few.note, few.good) == ("trained", "too few clients sent class sums", False)
    singular = found(with_heads({"kind": "lda", "kept": False, "reason": "singular"}))["Head"]
    assert (singular.value, singular.note, singular.good) == ("trained", "no finite one comes of the class sums", False)


@pytest.mark.parametrize(("ranks", "told"), [({"a": 1, "b": 4, "c": 0}, "1 to 4"), ({"a": 2, "b": 2, "c": 0}, "2")])
def test_the_ranks_under_a_budget_are_told_without_those_of_zero(ranks, told):
    planned = record(0, [client(0, 0)]) | {"plan": {"budget": 1000, "parameters": 960, "ranks": ranks}}
    card = found([planned, record(1, [client(0, 1)])])["Ranks under the budget"]
    assert (card.value, card.note) == (told, "on 2 of 3 modules; 960 parameters of 1,000")
    assert "Ranks under the budget" not in found(rounds(2))  # control


def test_found_D7_rows_that_clients_left_out_have_a_card():
    assert "Unusable rows left out" not in found(rounds(2))
    records = [record(r, [client(0, r, skipped=3), client(1, r, skipped=0), client(2, r)]) for r in range(3)]
    card = found(records)["Unusable rows left out"]
    assert (card.value, card.note, card.good) == ("3", "at 1 of 3 clients, whose logs tell why", False)


def test_found_D12_the_score_and_the_loss_of_a_run_have_its_own_names():
    for key, name, shown, unit in (("f1", "Micro-F1", "70.0%", "nats"), ("r2", "R²", "0.700", "mean squared error")):
        told = found([*rounds(1, **{f"test_{key}": 0.1}), record(2, [], **{f"test_{key}": 0.7, "test_accuracy": None})])
        assert told[name].value.endswith(shown)
        assert told[name].good
        assert told["Loss"].note == f"test rows, {unit}"
        assert "Accuracy" not in told
    assert "Accuracy" in found(rounds(2))  # control
