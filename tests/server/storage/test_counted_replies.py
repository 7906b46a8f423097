"""What the log says of the replies that counted."""

from common.protocol.assignment import CountedReply
from server.storage.counted_replies import counted_replies, rows_read


def entry(number, accepted, **examples):
    """Return a line of the log; a client without a reply has None for its update."""
    clients = [{"name": name, "examples": count, "update": "x" if count else None} for name, count in examples.items()]
    rows = [[name, f"{name}{number}", 0.5, "", 1.0, clip] for name, clip in accepted.items()]
    return {"round": number, "accepted": rows, "metrics": {"clients": clients}}


ENTRIES = [
    {"round": 0, "metrics": {"clients": []}},  # as earlier releases wrote it
    entry(1, {"ada": 1.0, "bob": 1.0}, ada=12, bob=3),
    entry(2, {"ada": 0.25}, ada=12, bob=0),
    entry(3, {}, ada=0, bob=0),
]


def test_the_last_reply_of_each_node_that_counted_is_named_with_its_clip_factor():
    assert counted_replies(ENTRIES, 0) == {"ada": CountedReply(2, "ada2", 0.25), "bob": CountedReply(1, "bob1", 1.0)}


def test_a_reply_from_before_a_new_draw_is_not_named():
    assert counted_replies(ENTRIES, 1) == {"ada": CountedReply(2, "ada2", 0.25)}
    assert counted_replies(ENTRIES, 3) == {}


def test_rows_behind_replies_that_counted_are_read_and_no_others():
    assert rows_read(ENTRIES) == {"ada": 24, "bob": 3}
    assert rows_read(ENTRIES)["eve"] == 0
