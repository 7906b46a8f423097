from pathlib import Path

import pytest

from common.errors import JournalError
from server.storage.hash_chain import Entry, link_entry, read_chain

HERE = Path("log.jsonl")


def lines_of(*names: str) -> list[bytes]:
    """Return the lines of a log of one entry per name."""
    lines: list[bytes] = []
    entries: tuple[Entry, ...] = ()
    for number, name in enumerate(names):
        lines.append(link_entry({"round": number, "name": name, "loss": number / 3}, entries))
        entries, _ = read_chain(b"".join(lines), HERE)
    return lines


LINES = lines_of("ada", "bob", "eve")
LOG = b"".join(LINES)


def test_entries_come_back_linked() -> None:
    entries, length = read_chain(LOG, HERE)
    assert length == len(LOG)
    assert [(e["round"], e["name"], e["loss"]) for e in entries] == [
        (0, "ada", 0),
        (1, "bob", 1 / 3),
        (2, "eve", 2 / 3),
    ]
    assert [e["previous"] for e in entries] == ["0" * 64, entries[0]["hash"], entries[1]["hash"]]


def test_an_empty_log_has_no_entries() -> None:
    assert read_chain(b"", HERE) == ((), 0)


def test_equal_entries_give_equal_lines() -> None:
    assert link_entry({"round": 0, "a": 1, "b": 2}, ()) == link_entry({"b": 2, "a": 1, "round": 0}, ())
    assert link_entry({"round": 0, "a": 1}, ()) != link_entry({"round": 0, "a": 2}, ())


def test_every_flipped_bit_is_found() -> None:
    for position in range(len(LOG)):
        for bit in range(8):
            damaged = bytearray(LOG)
            damaged[position] ^= 1 << bit
            with pytest.raises(JournalError, match="is changed"):
                read_chain(bytes(damaged), HERE)
    assert len(read_chain(LOG, HERE)[0]) == 3


def test_every_other_last_byte_is_found() -> None:
    for byte in set(range(256)) - {ord("\n")}:
        with pytest.raises(JournalError, match=r"line 3 \(round 2\) is changed; the last good round is 1"):
            read_chain(LOG[:-1] + bytes([byte]), HERE)


def test_a_line_that_was_never_finished_is_left_out() -> None:
    whole = len(LINES[0] + LINES[1])
    for length in range(whole, len(LOG)):
        entries, committed = read_chain(LOG[:length], HERE)
        assert (len(entries), committed) == (2, whole)


def test_bytes_that_never_were_a_line_are_left_out() -> None:
    assert read_chain(LOG + LINES[2][:9] + bytes(50), HERE) == read_chain(LOG, HERE)


@pytest.mark.parametrize(
    "log",
    [
        LINES[1] + LINES[0] + LINES[2],
        LINES[0] + LINES[2],
        LINES[0] + LINES[0],
        LINES[0] + b"\n" + LINES[1],
        LINES[0] + lines_of("eve", "bob")[1],
        LINES[0] + link_entry({"round": 2}, read_chain(LINES[0], HERE)[0]),
        LINES[0].replace(b'"loss":0.0', b'"loss":NaN'),
        LINES[0].replace(b'"loss":0.0', b'"loss":0.0,"loss":0.0'),
        LINES[0].replace(b'"loss":', b'"loss": '),
        b"[]\n",
        b"7\n",
        b"[" * 100_000 + b"\n",
        b"\xff\n",
    ],
)
def test_lines_that_do_not_fit_are_refused(log: bytes) -> None:
    with pytest.raises(JournalError, match=r"log\.jsonl line \d \(round \d\) is changed"):
        read_chain(log, HERE)


def test_the_error_says_where_it_is_and_what_is_left() -> None:
    with pytest.raises(JournalError, match=r"line 1 \(round 0\) is changed; no good round is left"):
        read_chain(LOG.replace(b"ada", b"adb"), HERE)
    with pytest.raises(JournalError, match=r"line 2 \(round 1\) is changed; the last good round is 0"):
        read_chain(LOG.replace(b"bob", b"bab"), HERE)


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        link_entry({"round": 0, "loss": float("nan")}, ())
