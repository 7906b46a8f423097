import math

import pytest

from common.errors import JournalError
from simulations.report.records import exp, held_out, histories, list_nodes, list_troubles, read_records
from tests.helpers.simulations.metrics import client, record, rounds, write_run


def test_reads_back_what_was_written(tmp_path):
    written = rounds(3)
    assert read_records(write_run(tmp_path, written)) == written


def test_a_number_that_earlier_releases_did_not_measure_reads_as_missing(tmp_path):
    earlier = [{key: value for key, value in each.items() if key != "agreement"} for each in rounds(1)]
    assert read_records(write_run(tmp_path, earlier)) == [each | {"agreement": None} for each in earlier]


def test_numbers_that_are_not_finite_read_as_missing(tmp_path):
    run = write_run(tmp_path, [record(0, [], test_loss=math.nan, residual=math.inf)])
    assert "NaN" in (run / "metrics.jsonl").read_text()
    assert [read_records(run)[0][key] for key in ("test_loss", "residual", "test_accuracy")] == [None, None, 0.07]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no round was committed"),
        ('{"round": 0}\n{oops', "metrics.jsonl:2 is not JSON"),
        ("[1]", "does not record a round"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(tmp_path, text, says):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(JournalError, match=says):
        read_records(tmp_path)


def test_a_folder_without_metrics_is_named(tmp_path):
    with pytest.raises(JournalError, match=str(tmp_path)):
        read_records(tmp_path)


def test_a_node_sums_its_rounds_and_keeps_its_first_and_last_loss():
    node = next(node for node in list_nodes(rounds(3)) if node.name == "client-01")
    assert (node.rank, node.rows, node.examples, node.tokens, node.rounds) == (4, 101, 480, 480, 3)
    assert (node.bytes_up, node.bytes_down) == (3000, 9000)
    assert (node.start, node.end) == pytest.approx((2.8, 2.5))


def test_a_node_has_the_largest_share_that_a_round_recorded():
    shares = [
        record(0, [client(0, 0, share=0.9)]),
        *(record(n, [client(0, n, share=s)]) for n, s in ((1, 0.2), (2, 0.5))),
    ]
    assert [node.share for node in list_nodes(shares)] == [0.5]
    assert [node.share for node in list_nodes(shares[:1])] == [None]


def test_nodes_stand_by_falling_rank():
    assert [node.rank for node in list_nodes(rounds(1, clients=8))] == [16, 16, 8, 8, 4, 4, 2, 2]


def test_a_client_that_never_trained_has_no_loss_at_the_end():
    refused = client(0, 1, status="refused", loss_before=None, loss_after=None)
    (node,) = list_nodes([record(0, [client(0, 0)]), record(1, [refused])])
    assert (node.start, node.end, node.rounds) == (2.8, None, 0)


def test_a_late_client_starts_from_the_model_it_first_received():
    (node,) = list_nodes([record(0, []), record(1, []), record(2, [client(0, 2, loss_before=2.2, loss_after=2.0)])])
    assert (node.start, node.end) == (2.2, 2.0)


def test_counts_may_be_missing():
    empty = dict.fromkeys(("rank", "rows", "examples", "tokens", "loss_before", "loss_after", "bytes_up", "bytes_down"))
    (node,) = list_nodes([record(0, []), {"round": 1, "clients": [client(0, 1, status="absent", **empty)]}])
    assert (node.rank, node.rows, node.examples, node.bytes_up, node.start) == (0, 0, 0, 0, None)


def test_histories_keep_the_order_of_rounds():
    assert [number for number, _ in histories(rounds(3))["client-02"]] == [0, 1, 2, 3]


def test_held_out_is_the_mean_of_those_that_measured():
    measured = [client(0, 1, loss_after=1.0), client(1, 1, loss_after=2.0), client(2, 1, loss_after=None)]
    assert held_out(record(1, measured)) == 1.5
    assert held_out(record(1, measured[2:])) is None


def test_troubles_gather_rounds_by_reason_and_leave_good_and_idle_clients_out():
    records = [
        record(r, [client(0, r), client(1, r, status="absent"), client(2, r, status="refused", reason="wrong shape")])
        for r in (1, 2)
    ]
    records.append(record(3, [client(0, 3, status="idle"), client(2, 3, status="refused", reason="other base")]))
    assert [(t.name, t.status, t.reason, t.rounds) for t in list_troubles(records)] == [
        ("client-02", "refused", "other base", (3,)),
        ("client-02", "refused", "wrong shape", (1, 2)),
        ("client-01", "absent", "no reason given", (1, 2)),
    ]


def test_troubles_end_with_clipped_and_identical_updates():
    records = [
        record(1, [client(0, 1, clip=0.5, same_as=None), client(1, 1, clip=1.0, same_as="client-03")]),
        record(2, [client(0, 2, clip=0.0125), client(1, 2, same_as="client-03"), client(2, 2, status="absent")]),
        record(3, [client(0, 3), client(1, 3)]),  # of a release that clipped nothing
    ]
    assert [(t.name, t.status, t.reason, t.rounds) for t in list_troubles(records)] == [
        ("client-02", "absent", "no reason given", (2,)),
        ("client-00", "clipped", "norm bound; smallest factor 0.013", (1, 2)),
        ("client-01", "identical", "same update as client-03", (1, 2)),
    ]


def test_exp_of_a_diverged_loss_is_a_number():
    assert exp(1.0) == math.e
    assert math.isfinite(exp(1e6))
