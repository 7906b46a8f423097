import pytest

from common.report.history import add_up, thin
from tests.helpers.simulations.metrics import client, record, rounds


def test_a_node_sums_its_rounds_and_keeps_its_first_and_last_loss():
    node = next(node for node in add_up(rounds(3)).nodes if node.name == "client-01")
    assert (node.rank, node.rows, node.examples, node.tokens, node.rounds) == (4, 101, 480, 480, 3)
    assert (node.bytes_up, node.bytes_down) == (3000, 9000)
    assert (node.start, node.end) == pytest.approx((2.8, 2.5))


def test_a_node_has_the_largest_share_that_a_round_recorded():
    shares = [
        record(0, [client(0, 0, share=0.9)]),
        *(record(n, [client(0, n, share=s)]) for n, s in ((1, 0.2), (2, 0.5))),
    ]
    assert [node.share for node in add_up(shares).nodes] == [0.5]
    assert [node.share for node in add_up(shares[:1]).nodes] == [None]


def test_nodes_stand_by_falling_rank():
    assert [node.rank for node in add_up(rounds(1, clients=8)).nodes] == [16, 16, 8, 8, 4, 4, 2, 2]


def test_a_client_that_never_trained_has_no_loss_at_the_end():
    refused = client(0, 1, status="refused", loss_before=None, loss_after=None)
    (node,) = add_up([record(0, [client(0, 0)]), record(1, [refused])]).nodes
    assert (node.start, node.end, node.rounds) == (2.8, None, 0)


def test_a_late_client_starts_from_the_model_it_first_received():
    (node,) = add_up([record(0, []), record(1, []), record(2, [client(0, 2, loss_before=2.2, loss_after=2.0)])]).nodes
    assert (node.start, node.end) == (2.2, 2.0)


def test_counts_may_be_missing():
    empty = dict.fromkeys(("rank", "rows", "examples", "tokens", "loss_before", "loss_after", "bytes_up", "bytes_down"))
    (node,) = add_up([record(0, []), {"round": 1, "clients": [client(0, 1, status="absent", **empty)]}]).nodes
    assert (node.rank, node.rows, node.examples, node.bytes_up, node.start) == (0, 0, 0, 0, None)


def test_losses_of_single_clients_keep_the_order_of_rounds():
    assert [number for number, _ in add_up(rounds(3)).losses["client-02"]] == [0, 1, 2, 3]


def test_of_very_many_clients_the_first_have_lines():
    assert len(add_up(rounds(1, clients=90)).losses) == 60


@pytest.mark.parametrize("count", [1, 9, 10, 11, 20, 21, 1000])
def test_thinned_values_are_few_and_end_with_the_last(count):
    values = thin(range(count), 10)
    assert len(values) <= 10
    assert values[-1] == count - 1
    assert list(values) == list(range(count)) or count > 10


def test_troubles_gather_rounds_by_reason_and_leave_good_and_idle_clients_out():
    records = [
        record(r, [client(0, r), client(1, r, status="absent"), client(2, r, status="refused", reason="wrong shape")])
        for r in (1, 2)
    ]
    records.append(record(3, [client(0, 3, status="idle"), client(2, 3, status="refused", reason="other base")]))
    assert [(t.name, t.status, t.reason, t.rounds) for t in add_up(records).troubles] == [
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
    assert [(t.name, t.status, t.reason, t.rounds) for t in add_up(records).troubles] == [
        ("client-02", "absent", "no reason given", (2,)),
        ("client-00", "clipped", "norm bound; smallest factor 0.013", (1, 2)),
        ("client-01", "identical", "same update as client-03", (1, 2)),
    ]
