"""Changes of valid input that keep most of its form, so that what lies behind the first check is reached too."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Change = tuple[int, int, int]
"""What is done, where, and with which number; each modulo the number of possibilities."""


@dataclass(frozen=True)
class Case:
    """One example, as numbers that a target reads as it likes.

    Args:
        choice: of the original, of the layer that is changed, and of what is made right again.
        changes: of that layer.
    """

    choice: int
    changes: Sequence[Change]

    def pick(self, items: Sequence[Any], digit: int) -> Any:
        """Return one of the items; each digit of the choice gives another."""
        return items[(self.choice >> 6 * digit & 63) % len(items)]


_CHANGE = st.tuples(st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
CASES = st.builds(Case, st.integers(0, 2**30 - 1), st.lists(_CHANGE, min_size=1, max_size=3))

_EDGES = [value % 2**64 for n in (0, 7, 8, 15, 16, 22, 30, 31, 32, 62, 63) for value in (2**n - 1, 2**n, -(2**n))]
_ENDS = ("little", "big")


def change_bytes(data: bytes, changes: Sequence[Change]) -> bytes:
    """Return the bytes with each change applied in turn."""
    for kind, place, number in changes:
        if data:
            data = _BYTES[kind % len(_BYTES)](data, place % len(data), number)
    return data


def _put(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def _put_edge(data: bytes, place: int, number: int) -> bytes:
    size, end = (1, 2, 4, 8)[number % 4], _ENDS[number // 4 % 2]
    return _put(data, place, (_EDGES[number // 8 % len(_EDGES)] % 2 ** (8 * size)).to_bytes(size, end))


def _insert(data: bytes, place: int, number: int) -> bytes:
    return data[:place] + _BITS[number % len(_BITS)] + data[place:]


def _splice(data: bytes, place: int, number: int) -> bytes:
    other = number % len(data)
    return data[:place] + data[other : other + 64] + data[place + number % 65 :]


_BITS = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b'"',
    b"\\",
    b"[",
    b"{",
    b"}",
    b"0",
    b"-",
    b"e9",
    b" ",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
)
_BYTES: tuple[Callable[[bytes, int, int], bytes], ...] = (
    lambda data, place, number: _put(data, place, bytes([data[place] ^ 1 << number % 8])),
    lambda data, place, number: _put(data, place, bytes([number % 256])),
    _put_edge,
    _insert,
    _splice,
    lambda data, place, number: data[:place],
    lambda data, place, number: data[:place] + data[place + 1 + number % 32 :],
    lambda data, place, number: data + data[place:],
)

RAW = {
    "deep list": "[" * 20_000 + "]" * 20_000,
    "deep object": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "a little deep": "[" * 300 + "]" * 300,
    "twice": '{"a":1,"a":2}',
    "long": "1" * 5000,
    "infinite": "1e999",
    "small": "-1e-999",
    "nan": "NaN",
    "below": "-Infinity",
    "zero": "-0.0",
    "bad": "01",
    "half a pair": r'"\ud800"',
    "bad escape": r'"\u12"',
    "not text": '"\t"',
}
"""JSON that no value of Python gives, or none that can be written."""
_RAW = tuple(f"raw {name}" for name in RAW)
VALUES = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        255,
        2**16,
        2**22,
        2**26,
        2**31 - 1,
        2**31,
        2**53,
        2**63 - 1,
        2**63,
        2**64,
        -(2**63) - 1,
        10**400,
    ),
    *(0.0, -1.5, 1e308, 5e-324, "", "a", "\0", "\x1b[2J\u202e", "\ud800", "é" * 300, "a" * 5000, "../../etc/passwd"),
    *("~nobody-of-this-name/x", "0" * 64, "package:.x", "1", "9" * 4400, "a.b", "(", "(a+)+$", "2026-11-26T00:00:00Z"),
    *([], {}, [[]], [None], [0] * 300, {"": {}}, {"bytes": "00"}, {"bytes": 5}, ["a", "a"], [1.5, "a", None]),
    *_RAW,
)
"""Values to put where another one was."""
PLAIN_VALUES = (*(value for value in VALUES if value not in _RAW), float("nan"), float("inf"), b"", b"\0")
"""Values without those that only a text has."""


def change_tree(tree: Any, changes: Sequence[Change], values: Sequence[Any] = VALUES) -> Any:
    """Return a copy of a tree of lists and dicts with each change applied in turn."""
    tree = {"": _copied(tree)}
    for kind, place, number in changes:
        places = list(_places(tree))
        if not places:
            break
        owner, key = places[place % len(places)]
        _TREE[kind % len(_TREE)](owner, key, number, places, values)
    return tree.get("")


def _copied(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list) else tree


def _places(tree: Any) -> Any:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _replace(owner: Any, key: Any, number: int, places: Any, values: Sequence[Any]) -> None:
    owner[key] = _copied(values[number % len(values)])


def _drop(owner: Any, key: Any, number: int, places: Any, values: Sequence[Any]) -> None:
    del owner[key]


def _move(owner: Any, key: Any, number: int, places: Any, values: Sequence[Any]) -> None:
    other, name = places[number % len(places)]
    if name in other or isinstance(other, list):
        owner[key] = _copied(other[name])


def _rename(owner: Any, key: Any, number: int, places: Any, values: Sequence[Any]) -> None:
    names = ("", "a", "extra", "\0", "\ud800", "a" * 5000, "../x", "__class__", str(key) + "x")
    if isinstance(owner, dict):
        owner[names[number % len(names)]] = owner.pop(key)
    else:
        owner.insert(number % (len(owner) + 1), owner[key])


def _nudge(owner: Any, key: Any, number: int, places: Any, values: Sequence[Any]) -> None:
    value = owner[key]
    if type(value) in (int, float):
        owner[key] = (value + 1, value - 1, -value, value * 2**31, [value])[number % 5]
    elif isinstance(value, str):
        owner[key] = (value[:-1], value + "0", value.upper(), value * 2, [value])[number % 5]
    elif isinstance(value, list):
        owner[key] = (value[:-1], value * 2, value[::-1], {"0": value}, [*value, value])[number % 5]
    else:
        _replace(owner, key, number, places, values)


_TREE = (_replace, _replace, _replace, _drop, _move, _rename, _nudge, _nudge)


def write_json(tree: Any, **form: Any) -> bytes:
    """Write a tree as JSON, with the raw values in place of their names."""
    text = json.dumps(tree, **form)
    for name, raw in RAW.items():
        if f'"raw {name}"' in text:
            text = text.replace(f'"raw {name}"', raw)
    return text.encode("utf-8", "surrogatepass")
