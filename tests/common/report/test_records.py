import math

import pytest

from common.errors import JournalError
from common.report.records import exp, held_out, read_records
from tests.helpers.simulations.metrics import client, record, rounds, write_run


def test_reads_back_what_was_written(tmp_path):
    written = rounds(3)
    assert list(read_records(write_run(tmp_path, written))) == written


def test_a_number_that_earlier_releases_did_not_measure_reads_as_missing(tmp_path):
    earlier = [{key: value for key, value in each.items() if key != "agreement"} for each in rounds(1)]
    assert list(read_records(write_run(tmp_path, earlier))) == [each | {"agreement": None} for each in earlier]


def test_numbers_that_are_not_finite_read_as_missing(tmp_path):
    run = write_run(tmp_path, [record(0, [], test_loss=math.nan, residual=math.inf)])
    assert "NaN" in (run / "metrics.jsonl").read_text()
    (read,) = read_records(run)
    assert [read[key] for key in ("test_loss", "residual", "test_accuracy")] == [None, None, 0.07]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no round was committed"),
        ('{"round": 0}\n{oops\n', "metrics.jsonl:2 is not JSON"),
        ("[1]\n", "does not record a round"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(tmp_path, text, says):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(JournalError, match=says):
        list(read_records(tmp_path))


def test_a_folder_without_metrics_is_named(tmp_path):
    with pytest.raises(JournalError, match=str(tmp_path)):
        list(read_records(tmp_path))


def test_held_out_is_the_mean_of_those_that_measured():
    measured = [client(0, 1, loss_after=1.0), client(1, 1, loss_after=2.0), client(2, 1, loss_after=None)]
    assert held_out(record(1, measured)) == 1.5
    assert held_out(record(1, measured[2:])) is None


def test_exp_of_a_diverged_loss_is_a_number():
    assert exp(1.0) == math.e
    assert math.isfinite(exp(1e6))


def test_a_line_that_is_being_written_does_not_count(tmp_path):
    run = write_run(tmp_path, rounds(2))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3, "sec')
    assert [each["round"] for each in read_records(run)] == [0, 1, 2]
