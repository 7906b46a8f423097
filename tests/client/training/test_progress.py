"""What a node's owner reads while it trains."""

import logging
import re

import pytest
import torch

from client.training.progress import TrainingLog
from common.protocol.assignment import Training

TRAINING = Training((0.1, 0.05, 0.025), 4, round=7)


@pytest.mark.parametrize(("period", "steps"), [(0.0, [1, 2, 3]), (3600.0, [3])])
def test_it_says_step_loss_rate_and_speed_now_and_then_and_at_the_end(period, steps, caplog):
    caplog.set_level(logging.INFO)
    watch = TrainingLog(TRAINING, period)
    for step in range(3):
        watch(step, torch.tensor(1.5 - step))
    said = [re.fullmatch(r"round 7: step (\d) of 3, loss (\S+), rate (\S+), \S+ steps/s", m) for m in caplog.messages]
    assert [(int(each[1]), float(each[2]), float(each[3])) for each in said] == [
        (step, 2.5 - step, TRAINING.learning_rates[step - 1]) for step in steps
    ]


def test_a_training_that_is_in_no_round_has_a_title(caplog):
    caplog.set_level(logging.INFO)
    for watch in (TrainingLog(TRAINING), TrainingLog(TRAINING, title="alone")):
        watch(2, torch.tensor(0.5))
    assert [message.partition(",")[0] for message in caplog.messages] == [
        "round 7: step 3 of 3",
        "alone: step 3 of 3",
    ]
    assert [record.fields.get("round") for record in caplog.records] == [7, None]


def test_it_reads_no_loss_where_nobody_would_see_it(caplog):
    class Unread(torch.Tensor):
        def item(self):
            raise AssertionError("reading it waits for the device")

    caplog.set_level(logging.WARNING)
    TrainingLog(TRAINING, 0.0)(2, torch.zeros(()).as_subclass(Unread))
    assert caplog.messages == []
