"""A run that was stopped goes on with the same bits; another run's settings or base are refused."""

from dataclasses import replace

import pytest

from common.errors import JournalError, RunError
from server.rounds.observer import RunObserver
from server.storage.journal_reader import verify_journal
from tests.helpers.common.disk_faults import largest_file
from tests.helpers.server.exchange import MemoryExchange
from tests.helpers.server.runs import clients, fresh, hashes, plan, run

RULES = {"increments": {}, "mode b": {"mode": "b"}, "capped": {"rank_global": 2, "rank_kept": 3}}
RULES |= {"changes, int8": {"rank_change": 2, "rank_global": 5, "wire": "int8"}, "bfloat16": {"wire": "bfloat16"}}
RULES |= {"fedsgd, int8": {"algorithm": "fedsgd", "hold": 1, "rank_change": 4, "wire": "int8"}}
RULES |= {"hetlora": {"algorithm": "hetlora"}, "sampled": {"cohort": 2}, "gaussian": {"a": "gaussian"}}


class Stop(Exception):
    """Someone pulled the plug."""


class Stopper(RunObserver):
    """Stops the run at one event of one round."""

    def __init__(self, event, number):
        self._event, self._number, self._now = event, number, 0

    def _pass(self, event):
        if (event, self._now) == (self._event, self._number):
            raise Stop

    def on_round_started(self, number, clients):
        self._now = number
        self._pass("started")

    def on_client_done(self, name, status):
        if name == "cyd":
            self._pass("half collected")

    def on_evaluating(self, count):
        self._pass("evaluating")

    def on_round_committed(self, record):
        self._now = record["round"]
        self._pass("committed")


def outcome(entries):
    """Return all that two runs must have in common: not the seconds, nor the bytes sent again to nodes that forgot."""
    return [
        entry["metrics"]
        | {"seconds": None, "hash": entry["adapter_hash"], "bytes_down": None}
        | {"clients": [client | {"bytes_down": None, "bytes_by_part": None} for client in entry["metrics"]["clients"]]}
        for entry in entries
    ]


@pytest.mark.parametrize("rule", RULES)
def test_stopped_after_each_round_it_ends_with_the_same_bits(rule, tmp_path):
    settings = plan(3, **RULES[rule])
    for number in range(4):
        with pytest.raises(Stop):
            run(tmp_path / "run", fresh(), settings, Stopper("committed", number))
    assert outcome(run(tmp_path / "run", fresh(), settings)) == outcome(run(tmp_path / "other", fresh(), settings))


@pytest.mark.parametrize("event", ["started", "half collected", "evaluating"])
@pytest.mark.parametrize("number", [1, 3])
def test_stopped_within_a_round_it_ends_with_the_same_bits(event, number, tmp_path):
    settings = plan(3, rank_global=3)
    with pytest.raises(Stop):
        run(tmp_path / "run", fresh(), settings, Stopper(event, number))
    if event == "half collected":
        assert list((tmp_path / "run" / "spool").iterdir())
    assert outcome(run(tmp_path / "run", fresh(), settings)) == outcome(run(tmp_path / "other", fresh(), settings))
    assert not list((tmp_path / "run" / "spool").iterdir())


def test_another_seed_would_show(tmp_path):
    assert hashes(run(tmp_path / "one", fresh(), plan(2))) != hashes(
        run(tmp_path / "two", fresh(), replace(plan(2), seed=8))
    )


def test_other_numbers_for_the_nodes_change_no_bit(tmp_path):
    messenger = fresh()
    messenger.connected = {900 - node: who for node, who in messenger.connected.items()}
    assert outcome(run(tmp_path / "one", messenger, plan(3))) == outcome(run(tmp_path / "two", fresh(), plan(3)))


def test_a_finished_run_does_nothing_more(tmp_path):
    entries = run(tmp_path, fresh(), plan(2))
    messenger = MemoryExchange([])  # nobody needs to be there
    assert run(tmp_path, messenger, plan(2)) == entries
    assert messenger.asked == []


@pytest.fixture
def begun(tmp_path):
    """Return a run that was stopped after its first round."""
    with pytest.raises(Stop):
        run(tmp_path / "run", fresh(), plan(3), Stopper("committed", 1))
    return tmp_path / "run"


def test_other_settings_are_refused_by_both_hashes(begun):
    log = (begun / "log.jsonl").read_bytes()
    with pytest.raises(
        JournalError, match="the run began with settings settings, but these are others; use those of the run"
    ):
        run(begun, fresh(), plan(3, config="others"))
    assert (begun / "log.jsonl").read_bytes() == log


def test_another_base_is_refused_by_both_fingerprints(begun):
    log = (begun / "log.jsonl").read_bytes()
    with pytest.raises(
        JournalError, match="have fingerprint base, but those of ada, bob, cyd, eve have others; give the nodes"
    ):
        run(begun, fresh(base="other"), plan(3))
    with pytest.raises(JournalError, match=r"have fingerprint base, but \[base\] is other; name the base"):
        run(begun, fresh(base="other"), plan(3), base="other")
    assert (begun / "log.jsonl").read_bytes() == log


def test_some_nodes_of_another_base_do_not_stop_the_run(begun):
    messenger = fresh()
    messenger.connected[101] = replace(messenger.connected[101], base="other")
    entries = run(begun, messenger, plan(3))
    assert len(entries) == 4
    assert clients(entries[3])["bob"]["reason"] == "base"


def test_the_largest_rank_is_that_of_the_first_round(begun):
    messenger = fresh()
    messenger.connected[104] = replace(messenger.connected[103], name="zoe", rank=9)
    del messenger.connected[100]  # the only one of rank 8
    entries = run(begun, messenger, plan(3))
    assert (clients(entries[3])["zoe"]["rank"], clients(entries[3])["zoe"]["status"]) == (8, "ok")
    assert entries[3]["max_rank"] == 8
    assert entries[3]["metrics"]["aggregation_error"] <= 1e-6


def test_a_full_disk_while_replies_come_in_costs_no_round(begun, tmp_path):
    undisturbed = hashes(run(tmp_path / "other", fresh(), plan(3)))
    message = r"cannot keep .*/run/spool/ada .*: File too large; the last committed round is intact"
    with largest_file(100), pytest.raises(RunError, match=message) as error:
        run(begun, fresh(), plan(3))
    assert error.value.exit_status == 1
    assert hashes(verify_journal(begun)) == undisturbed[:2]
    assert hashes(run(begun, fresh(), plan(3))) == undisturbed
