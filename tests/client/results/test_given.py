"""What a node keeps of the requests that it answered, so that as much can be trained alone."""

import pytest

from client.results.given import asked_gram, given_training
from common.protocol.assignment import Training

BEGUN = Training((0.3, 0.2), batch=4, accumulate=2, clip=0.5, dropout=0.1, seed=7, draw=5, begin=3)


def request(number, *rates, rows=16, phase=1):
    return {"kind": "train", "round": number, "phase": phase, "rates": list(rates), "rows": rows}


def test_each_batch_of_the_run_is_a_step_at_its_rate():
    history = [request(1, 0.3, 0.2), {"kind": "evaluate", "round": 1, "loss": 1.0}, request(2, 0.1, 0.05)]
    assert given_training(history, BEGUN, 2) == Training(
        (0.3, 0.2, 0.1, 0.05), batch=4, accumulate=2, clip=0.5, dropout=0.1, seed=7
    )


def test_a_gradient_counts_as_a_training_of_its_phase():
    history = [request(1, 0.3), request(1, 0.2, phase=2), request(2, 0.1)]
    assert given_training(history, BEGUN, 2).learning_rates == (0.3, 0.2, 0.1)


@pytest.mark.parametrize(
    ("rows", "batch", "passes"), [([7, 9], 4, 2), ([2, 2], 2, 1), ([4, 4], 4, 1), ([9, 9], 3, 3), ([0, 1], 1, 1)]
)
def test_steps_have_the_mean_rows_of_the_draws_in_passes_of_a_batch_at_most(rows, batch, passes):
    found = given_training([request(n, 0.1, rows=each) for n, each in enumerate(rows, 1)], BEGUN, 2)
    assert (found.batch, found.accumulate) == (batch, passes)


def test_of_a_round_that_was_repeated_the_last_request_counts():
    history = [request(1, 0.3), request(2, 0.2), request(1, 0.1), request(2, 0.05), request(3, 0.9)]
    assert given_training(history, BEGUN, 2).learning_rates == (0.1, 0.05)


def test_a_node_that_trained_in_no_round_has_no_steps():
    assert given_training([{"kind": "train", "round": 1, "loss": 0.5}], BEGUN, 3).learning_rates == ()


@pytest.mark.parametrize(
    ("history", "gram"),
    [
        ([request(1, 0.1), {"kind": "evaluate", "round": 1}], None),
        ([{"kind": "evaluate", "round": 0, "asks": "class-sums", "gram": True}], True),
        ([{"kind": "evaluate", "round": 0, "asks": "head-losses"}, {"asks": "class-sums", "gram": False}], False),
    ],
)
def test_a_head_in_closed_form_is_known_by_the_request_for_its_sums(history, gram):
    assert asked_gram(history) is gram
