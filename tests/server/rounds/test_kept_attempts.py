"""What is kept of a round is of the attempt that was committed, not of one that was abandoned."""

from dataclasses import replace

from server.rounds import quorum
from tests.helpers.server.exchange import MemoryExchange
from tests.helpers.server.runs import FOUR, plan, run


def test_a_reply_to_an_abandoned_attempt_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(quorum, "PAUSE", 0.0)
    nodes = FOUR[:3]

    def tamper(name, kind, number, reply):
        if kind != "train" or reply.values["attempt"] > 1:
            return reply
        if name != "ada":
            return "absent"
        exchange.connected.pop(100)  # ada leaves once it has replied
        return reply

    exchange = MemoryExchange(nodes, tamper)
    settings = replace(plan(rounds=1, keep_updates="all"), quorum=2, attempts=3)
    entries = run(tmp_path / "journal", exchange, settings)
    assert [row[0] for row in entries[1]["accepted"]] == ["bob", "cyd"]
    kept = (tmp_path / "journal" / "updates" / "000001").glob("*.update")
    assert sorted(path.name for path in kept) == ["1.bob.update", "1.cyd.update"]
