"""The status file of a run: written anew at each event, whole."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count

from server.monitoring.status import ServerStatus
from server.monitoring.status_file import FILE, REFUSALS, write_status
from server.monitoring.status_reader import read_status
from tests.helpers.common.disk_faults import largest_file
from tests.helpers.end_to_end.transport import until
from tests.helpers.server.runs import FOUR, fresh, plan, run
from tests.helpers.server.traffic import NOBODY, Nodes

BEGAN = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    """Each look is a second after the one before."""

    def __init__(self):
        self._seconds = count()

    def __call__(self):
        return BEGAN + timedelta(seconds=next(self._seconds))


class Kept(ServerStatus):
    """Keeps every status that was on disk."""

    def __init__(self, folder):
        super().__init__(folder, NOBODY, "here:1", "here:2", clock=Clock())
        self.folder, self.all = folder, []

    def _write(self, **now):
        super()._write(**now)
        self.all.append(told(self.folder))


def status_of(folder, traffic=NOBODY):
    return ServerStatus(folder, traffic, "here:1", "here:2")


def told(folder):
    """Return the status file as written, which is one that the reader takes."""
    read_status(folder)
    return json.loads((folder / FILE).read_bytes())


def nodes(status):
    return {node["name"]: node for node in status["nodes"]}


def test_a_run_is_told_from_its_start_to_its_end(tmp_path):
    kept = Kept(tmp_path)
    run(tmp_path / "journal", fresh(), plan(2), kept)
    said = [(status["phase"], status["round"], status["done"], status["of"]) for status in kept.all]
    one = [("training", 1, done, 4) for done in range(5)] + [("evaluating", 1, 0, 4), ("committed", 1, 0, 0)]
    two = [("training", 2, done, 4) for done in range(5)] + [("evaluating", 2, 0, 4), ("finished", 2, 0, 0)]
    said = [each for each, before in zip(said, [None, *said], strict=False) if each != before]  # states came between
    assert said == [
        ("starting", 0, 0, 0),
        ("started", 0, 0, 0),
        ("evaluating", 0, 0, 4),
        ("committed", 0, 0, 0),
        *one,
        *two,
    ]
    assert {status["rounds"] for status in kept.all[1:]} == {2}
    assert not [*tmp_path.glob("*.tmp")]


def test_a_node_is_told_with_its_bytes(tmp_path):
    kept = Kept(tmp_path)
    entries = run(tmp_path / "journal", fresh(), plan(2), kept)
    last = nodes(kept.all[-1])
    assert list(last) == [node.name for node in FOUR]
    for node in FOUR:
        records = [c for entry in entries for c in entry["metrics"]["clients"] if c["name"] == node.name]
        assert (last[node.name]["rank"], last[node.name]["status"]) == (node.rank, "ok")
        for way in ("bytes_up", "bytes_down"):
            assert last[node.name][way] == sum(record[way] for record in records) > 0
    times = [status["updated"] for status in kept.all]
    assert times == sorted(times)
    assert all(datetime.fromisoformat(time).tzinfo == UTC for time in times)
    assert kept.all[0]["started"] == kept.all[-1]["started"] == BEGAN.isoformat() < times[0]


def test_who_is_connected_and_when_it_was_seen_is_as_the_grid_has_it(tmp_path):
    traffic = Nodes(["ada"])
    traffic.call("ada")
    traffic.call("bob")
    status = status_of(tmp_path, traffic)
    status.on_waiting({"ada": "ready"}, 3)
    said = nodes(told(tmp_path))
    assert {name: node["connected"] for name, node in said.items()} == {"ada": True}  # bob was never let in
    seen = datetime.fromisoformat(said["ada"]["last_seen"])
    assert abs((datetime.now(UTC) - seen).total_seconds()) < 60
    traffic.connected = []
    status.on_client_done("ada", "ok")
    gone = nodes(told(tmp_path))["ada"]
    assert (gone["connected"], gone["last_seen"], gone["status"]) == (False, said["ada"]["last_seen"], "ok")


def test_the_last_status_of_a_run_has_nobody_connected(tmp_path):
    run(tmp_path / "journal", fresh(), plan(1), status_of(tmp_path, Nodes(["ada"])))
    assert not any(node["connected"] for node in told(tmp_path)["nodes"])


def test_refusals_at_the_door_are_told(tmp_path):
    traffic = Nodes()
    traffic.call("eve")
    traffic.meters["eve"].refused["revoked"] += 2
    status_of(tmp_path, traffic).on_waiting({}, 3)
    assert told(tmp_path)["refusals"] == [{"name": "eve", "reason": "revoked", "count": 2, "round": None}]


def test_it_is_written_while_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr("server.monitoring.status.BEAT", 0.01)
    traffic = Nodes()
    status = status_of(tmp_path, traffic)
    status.on_waiting({}, 3)
    traffic.connected = ["ada"]
    assert not nodes(told(tmp_path))
    with status.heartbeat():
        until(lambda: nodes(told(tmp_path)))


def test_refusals_are_counted_by_node_and_reason(tmp_path):
    messenger, kept = fresh(), Kept(tmp_path)
    messenger.tamper = lambda name, kind, number, reply: "policy" if name == "eve" and kind == "train" else reply
    run(tmp_path / "journal", messenger, plan(3), kept)
    assert kept.all[-1]["refusals"] == [{"name": "eve", "reason": "policy", "count": 3, "round": 3}]
    assert (nodes(kept.all[-1])["eve"]["status"], nodes(kept.all[-1])["eve"]["reason"]) == ("refused", "policy")


def test_refusals_do_not_pile_up(tmp_path):
    status = status_of(tmp_path)
    for number in range(REFUSALS + 5):
        status.on_round_abandoned(number, 1, {f"node-{number}": "failed"})
    kept = told(tmp_path)["refusals"]
    assert [refusal["name"] for refusal in kept] == [f"node-{number}" for number in range(5, REFUSALS + 5)]


def test_waiting_and_abandoned_attempts_are_told(tmp_path):
    status = status_of(tmp_path)
    status.on_waiting({"ada": "ready"}, 3)
    said = told(tmp_path)
    assert (said["phase"], said["done"], said["of"]) == ("waiting", 1, 3)
    status.on_round_abandoned(4, 2, {"eve": "absent"})
    said = told(tmp_path)
    assert (said["phase"], said["round"], nodes(said)["eve"]["reason"]) == ("abandoned", 4, "absent")


def test_a_run_that_goes_on_counts_what_passed_before(tmp_path):
    entries = run(tmp_path / "journal", fresh(), plan(2), Kept(tmp_path))
    whole = nodes(told(tmp_path))
    again = status_of(tmp_path)
    again.restore(entries)
    again.on_run_started(2, 2)
    restored = nodes(told(tmp_path))
    assert whole == restored


def test_a_status_that_cannot_be_written_ends_no_run(tmp_path, caplog):
    status = status_of(tmp_path / "missing")
    assert len(run(tmp_path / "journal", fresh(), plan(1), status)) == 2
    assert "cannot write" in caplog.text


def test_a_full_disk_leaves_the_status_before(tmp_path, caplog):
    write_status(tmp_path, {"round": 1})
    before = (tmp_path / FILE).read_bytes()
    with largest_file(3):
        write_status(tmp_path, {"round": 2})
    assert "File too large" in caplog.text
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {FILE: before}
    write_status(tmp_path, {"round": 2})
    assert (tmp_path / FILE).read_bytes() != before
