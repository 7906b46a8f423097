"""Rows S8 and S9, memory follows the order: a real server process, three honest nodes, and hostile ones beside them."""

import grpc
import pytest

from tests.helpers.end_to_end.hostile_frames import HONEST, Hostile, announcing, first_frame, head_of, run_among
from tests.helpers.simulations.runs import entries, hashes

LARGE = 1_023_000_000
MOST = 64 * 2**20
"""Bytes by which the server may grow in a whole run; an honest one takes a part of it."""


def with_more(frames):
    """Send 2 % more than what was ordered."""
    ((*array, size),) = next(record[2] for record in head_of(frames)["records"] if record[0] == "adapter")
    return announcing([*array, size + size // 50 + 1])(frames)


def with_a_long_header(frames):
    plain = head_of(frames)
    next(record for record in plain["records"] if record[0] == "values")[2].append(["x", "x" * 900_000])
    return [first_frame(plain), *frames[1:]]


def with_a_long_reason(frames):
    return [first_frame({"metadata": head_of(frames)["metadata"], "error": [2, "x" * 900_000]})]


def array(size, name="adapter", shape=None):
    return [name, "uint8", shape or [size], "fedlora.v1", size]


TOO_LARGE = {
    "large": Hostile(announcing(array(LARGE))),
    "one-of-two": Hostile(announcing(array(600_000_000))),
    "other-of-two": Hostile(announcing(array(600_000_000))),
    "two-percent": Hostile(with_more),
    "many-arrays": Hostile(announcing(*(array(2**20, f"{n}") for n in range(200)))),
    "other-name": Hostile(announcing(array(2**28, "other"))),
    "small-shape": Hostile(announcing(array(2**28, shape=[1]))),
}
"""Replies that announce more than was ordered."""
TOO_LONG = {"long-header": Hostile(with_a_long_header), "long-reason": Hostile(with_a_long_reason)}
"""Replies whose first frame is too long, so that the server does not read what they answer."""


INFLATED = announcing(array(200 * 2**20))
"""200 frames of 1 MiB, each 1 kB of gzip."""
COMPRESSED = {
    "gzip": Hostile(INFLATED, grpc.Compression.Gzip),
    "deflate": Hostile(INFLATED, grpc.Compression.Deflate),
    "honest-but-gzip": Hostile(compression=grpc.Compression.Gzip),
}
"""Replies in calls that are compressed."""
SHUT_OUT = {"gzip-everywhere": Hostile(INFLATED, grpc.Compression.Gzip, everywhere=True)}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    return run_among(tmp_path_factory.mktemp("calm"), {})


@pytest.fixture(scope="module")
def flooded(tmp_path_factory):
    return run_among(tmp_path_factory.mktemp("flooded"), TOO_LARGE | TOO_LONG)


@pytest.fixture(scope="module")
def inflated(tmp_path_factory):
    plain = {"plain": Hostile(), "plain-200": Hostile(INFLATED)}
    return run_among(tmp_path_factory.mktemp("inflated"), COMPRESSED | SHUT_OUT | plain)


def reasons(outcome):
    """Return the journal's reason word by node, for each round in which nodes train."""
    committed = [entry["metrics"]["clients"] for entry in entries(outcome.project.run)[1:]]
    return [{client["name"]: client["reason"] for client in clients} for clients in committed]


def test_found_S8_the_honest_run_is_the_same_to_the_bit(calm, flooded):
    assert (calm.ended.status, flooded.ended.status) == (0, 0), flooded.project.log[-20:]
    assert len(hashes(calm.project.run)) == 4
    assert hashes(flooded.project.run) == hashes(calm.project.run)


def test_found_S8_what_is_more_than_the_order_is_refused_by_name_in_every_round(calm, flooded):
    good = dict.fromkeys(HONEST)
    assert reasons(calm) == [good] * 3
    first, *later = reasons(flooded)
    assert first == good | dict.fromkeys(TOO_LARGE, "malformed") | dict.fromkeys(TOO_LONG, "absent")
    assert later == [good | dict.fromkeys(TOO_LARGE, "malformed")] * 2


def test_found_S8_the_server_grows_by_less_than_any_of_the_replies(calm, flooded):
    assert calm.growth > 0
    assert flooded.growth < MOST < 2**28 < LARGE


def test_found_S8_the_log_has_both_sizes(flooded):
    lines = "\n".join(flooded.project.log)
    assert lines.count(f"a reply of node large: {LARGE} bytes of arrays where at most ") == 1
    assert "node large was refused 2 more times in the last minute: malformed" in lines
    for name in TOO_LARGE:
        assert f"a reply of node {name}: " in lines
    for name in TOO_LONG:
        assert f"a reply of node {name}: 90" in lines
        assert "cannot read this node's messages" in flooded.refusals[name]


def test_found_S9_no_reply_is_taken_from_a_call_that_is_compressed(inflated):
    """The same node without compression takes part, and the same frames without it arrive, and are too many."""
    good, plain = dict.fromkeys(HONEST), {"plain": None, "plain-200": "malformed"}
    assert inflated.ended.status == 0, inflated.project.log[-20:]
    first, *later = reasons(inflated)
    assert first == good | plain | dict.fromkeys(COMPRESSED, "absent")
    assert later == [good | plain] * 2


def test_found_S9_the_log_and_the_node_say_it(inflated):
    lines = inflated.project.log
    for name in COMPRESSED | SHUT_OUT:
        assert f"a call of node {name} has no first frame: it was compressed, late or broken off" in lines
    for name in COMPRESSED:
        assert "cannot read this node's messages" in inflated.refusals[name]
    assert "Compression algorithm 'gzip' is disabled" in inflated.refusals["gzip-everywhere"]
    assert "node gzip-everywhere is connected" not in lines


def test_found_S9_the_server_grows_by_less_than_what_would_be_inflated(inflated):
    assert inflated.growth < MOST < 200 * 2**20


def test_found_S9_the_honest_run_is_the_same_to_the_bit(calm, tmp_path):
    hostile = COMPRESSED | SHUT_OUT
    outcome = run_among(tmp_path, hostile)
    assert hashes(outcome.project.run) == hashes(calm.project.run)
