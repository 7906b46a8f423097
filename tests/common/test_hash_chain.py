from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from common.errors import JournalError
from common.hash_chain import RETURN, Chain, read_chain

HERE = Path("log.jsonl")


def lines_of(*contents: str | Mapping[str, Any]) -> list[bytes]:
    """Return the lines of a log: one entry per name, and other lines as they are given."""
    lines: list[bytes] = []
    chain = Chain()
    for each in contents:
        number = len(chain.entries)
        entry = {"round": number, "name": each, "loss": number / 3, "adapter_hash": f"{each} {number}"}
        lines.append(chain.next_line(entry if isinstance(each, str) else each))
        chain = read_chain(b"".join(lines), HERE)
    return lines


def back(number: int, adapter: str, left: int) -> dict[str, Any]:
    return {RETURN: number, "adapter_hash": adapter, "left": left}


LINES = lines_of("ada", "bob", "eve")
LOG = b"".join(LINES)


def test_entries_come_back_linked() -> None:
    chain = read_chain(LOG, HERE)
    entries = chain.entries
    assert (chain.length, chain.returned, chain.left) == (len(LOG), None, 0)
    assert [(e["round"], e["name"], e["loss"]) for e in entries] == [
        (0, "ada", 0),
        (1, "bob", 1 / 3),
        (2, "eve", 2 / 3),
    ]
    assert [e["previous"] for e in entries] == ["0" * 64, entries[0]["hash"], entries[1]["hash"]]


def test_an_empty_log_has_no_entries() -> None:
    assert read_chain(b"", HERE) == Chain()


def test_equal_entries_give_equal_lines() -> None:
    assert Chain().next_line({"round": 0, "a": 1, "b": 2}) == Chain().next_line({"b": 2, "a": 1, "round": 0})
    assert Chain().next_line({"round": 0, "a": 1}) != Chain().next_line({"round": 0, "a": 2})


def test_every_flipped_bit_is_found() -> None:
    for position in range(len(LOG)):
        for bit in range(8):
            damaged = bytearray(LOG)
            damaged[position] ^= 1 << bit
            with pytest.raises(JournalError, match="is changed"):
                read_chain(bytes(damaged), HERE)
    assert len(read_chain(LOG, HERE).entries) == 3


def test_every_other_last_byte_is_found() -> None:
    for byte in set(range(256)) - {ord("\n")}:
        with pytest.raises(JournalError, match=r"line 3 \(round 2\) is changed; the last good round is 1"):
            read_chain(LOG[:-1] + bytes([byte]), HERE)


def test_a_line_that_was_never_finished_is_left_out() -> None:
    whole = len(LINES[0] + LINES[1])
    for length in range(whole, len(LOG)):
        chain = read_chain(LOG[:length], HERE)
        assert (len(chain.entries), chain.length) == (2, whole)


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
        LINES[0] + read_chain(LINES[0], HERE).next_line({"round": 2}),
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
        Chain().next_line({"round": 0, "loss": float("nan")})


# --- returns ---

BACK = lines_of("ada", "bob", "eve", back(0, "ada 0", 2), "eve", "fay", "gil", back(2, "fay 2", 1), "hal")


def test_rounds_that_a_return_left_do_not_count() -> None:
    chains = [read_chain(b"".join(BACK[:count]), HERE) for count in range(len(BACK) + 1)]
    assert [[e["name"] for e in chain.entries] for chain in chains[3:]] == [
        *(["ada", "bob", "eve"], ["ada"], ["ada", "eve"], ["ada", "eve", "fay"], ["ada", "eve", "fay", "gil"]),
        *(["ada", "eve", "fay"], ["ada", "eve", "fay", "hal"]),
    ]
    assert [chain.left for chain in chains[3:]] == [0, 2, 2, 2, 2, 3, 3]
    assert [bool(chain.returned) for chain in chains[3:]] == [False, True, True, True, True, True, True]
    assert chains[4].returned and chains[4].returned[RETURN] == 0
    assert all(chain.length == len(b"".join(BACK[:n])) for n, chain in enumerate(chains))


def test_two_returns_in_a_row_add_up() -> None:
    lines = lines_of("ada", "bob", "eve", back(1, "bob 1", 1), back(0, "ada 0", 1))
    chain = read_chain(b"".join(lines), HERE)
    assert (len(chain.entries), chain.left) == (1, 2)


def test_a_flipped_bit_of_a_log_with_returns_is_found() -> None:
    log = b"".join(BACK)
    for position in range(len(log)):
        damaged = bytearray(log)
        damaged[position] ^= 1
        with pytest.raises(JournalError, match="is changed"):
            read_chain(bytes(damaged), HERE)


def test_history_that_is_cut_out_is_found() -> None:
    for first in range(len(BACK)):
        for last in range(first + 1, len(BACK)):
            with pytest.raises(JournalError, match="is changed"):
                read_chain(b"".join(BACK[:first] + BACK[last:]), HERE)


@pytest.mark.parametrize(
    "line",
    [
        *(back(2, "eve 2", 0), back(3, "", 0), back(-1, "eve 2", 3), back(1, "bob 1", 2), back(1, "eve 2", 1)),
        *({RETURN: True, "adapter_hash": "bob 1", "left": 1}, {RETURN: 1.0, "adapter_hash": "bob 1", "left": 1}),
        *({RETURN: 1}, {RETURN: None, "left": 1}, {RETURN: 1, "adapter_hash": "bob 1", "left": True}),
    ],
)
def test_a_return_that_does_not_fit_is_refused(line: dict[str, Any]) -> None:
    with pytest.raises(JournalError, match=r"line 4 \(round 3\) is changed"):
        lines_of("ada", "bob", "eve", line)
