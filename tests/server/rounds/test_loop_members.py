"""Whole runs with nodes in memory: nodes come and go."""

from dataclasses import replace

import pytest

from common.errors import RunError
from tests.helpers.server.exchange import MemoryExchange, NumpyNode, Recorded
from tests.helpers.server.runs import FOUR, Each, clients, fresh, plan, run


def test_a_cohort_is_a_seeded_sample(tmp_path):
    def sampled(folder, seed):
        entries = run(tmp_path / folder, fresh(), replace(plan(6, cohort=2), seed=seed))
        return [sorted(clients(entry)) for entry in entries[1:]]

    chosen = sampled("one", 7)
    assert all(len(names) == 2 for names in chosen)
    assert len({tuple(names) for names in chosen}) > 2
    assert sampled("again", 7) == chosen != sampled("other", 8)


def test_a_sampled_node_knows_its_loss_before(tmp_path):
    messenger = Recorded(FOUR)
    entries = run(tmp_path, messenger, plan(6, cohort=2))
    for entry in entries[1:]:
        for name, record in clients(entry).items():
            measured = messenger.replies["evaluate", entry["round"] - 1, name].values["loss"]
            assert record["loss_before"] == measured


def test_a_late_joiner_takes_part_in_the_next_round(tmp_path):
    messenger = fresh()
    late = NumpyNode("zoe", 2)
    entries = run(tmp_path, messenger, plan(3), Each(started=lambda number: messenger.connected.update({999: late})))
    assert ["zoe" in clients(entry) for entry in entries] == [False, False, True, True]
    assert clients(entries[2])["zoe"]["share"] > 0
    assert all(entry["metrics"]["aggregation_error"] <= 1e-6 for entry in entries[1:])


def test_one_that_joins_before_the_first_round_takes_part_in_it(tmp_path):
    messenger = fresh()
    late = NumpyNode("zoe", 2)
    entries = run(tmp_path, messenger, plan(1), Each(committed=lambda number: messenger.connected.update({999: late})))
    assert clients(entries[1])["zoe"]["status"] == "ok"


def test_one_of_another_base_is_told_in_each_record_and_one_that_is_too_large_trains_at_the_runs_rank(tmp_path):
    messenger = MemoryExchange([*FOUR, NumpyNode("dan", 4, base="old")])
    late = NumpyNode("zoe", 64)
    entries = run(tmp_path, messenger, plan(3), Each(started=lambda number: messenger.connected.update({999: late})))
    for entry in entries:
        assert (clients(entry)["dan"]["status"], clients(entry)["dan"]["reason"]) == ("refused", "base")
    joined = [clients(entry).get("zoe", {}) for entry in entries]
    assert [(zoe.get("rank"), zoe.get("status")) for zoe in joined] == [(None, None)] * 2 + [(8, "ok")] * 2


def test_a_node_that_leaves_in_a_round_is_absent_in_it(tmp_path):
    messenger = fresh()

    def leave(number):
        if number == 2:
            del messenger.connected[103]

    entries = run(tmp_path, messenger, plan(3), Each(started=leave))
    assert (clients(entries[2])["eve"]["status"], clients(entries[2])["eve"]["reason"]) == ("absent", "absent")
    assert (clients(entries[2])["eve"]["share"], clients(entries[2])["eve"]["loss_after"]) == (0.0, None)
    assert "eve" not in clients(entries[3])
    assert sum(record["share"] for record in clients(entries[2]).values()) == pytest.approx(1)


@pytest.mark.parametrize("algorithm", ["increments", "hetlora"])
def test_one_that_is_away_for_five_rounds_comes_back(algorithm, tmp_path):
    messenger = fresh()
    eve = messenger.connected[103]

    def come_and_go(number):
        if number == 1:
            del messenger.connected[103]
        if number == 6:
            messenger.connected[204] = eve

    entries = run(tmp_path, messenger, plan(8, algorithm=algorithm), Each(committed=come_and_go))
    assert ["eve" in clients(entry) for entry in entries] == [True, True, False, False, False, False, False, True, True]
    back = clients(entries[7])["eve"]
    assert back["status"] == "ok"
    assert 0 < back["share"] <= 0.5 or algorithm == "increments"
    if algorithm == "increments":
        assert back["share"] == 40 / 75
        assert all(entry["metrics"]["aggregation_error"] <= 1e-6 for entry in entries[1:])


def test_nodes_may_leave_after_the_last_round(tmp_path):
    messenger = fresh()
    entries = run(
        tmp_path, messenger, plan(2), Each(committed=lambda number: number == 2 and messenger.connected.clear())
    )
    assert len(entries) == 3


def test_where_all_have_left_the_run_stops_and_says_how_to_go_on(tmp_path):
    messenger = fresh()
    with pytest.raises(RunError, match="none is connected") as error:
        run(tmp_path, messenger, plan(3), Each(committed=lambda number: number == 1 and messenger.connected.clear()))
    assert error.value.exit_status == 1
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert len(run(tmp_path, fresh(), plan(3))) == 4


def test_a_run_without_nodes_writes_nothing(tmp_path):
    with pytest.raises(RunError, match="none is connected"):
        run(tmp_path, MemoryExchange([]), plan(3))
    assert (tmp_path / "log.jsonl").read_bytes() == b""
