"""Headers whose checksum is right: whatever they hold, `decode` gives an adapter in its one form or a CodecError."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.codec import decode_adapter, encode_adapter
from common.errors import CodecError
from tests.helpers.common.buffers import PREFIX, claim, compact, data_of, header_of, random_adapter, sealed

SMALL = random_adapter({"q": (3, 2, 2), "v": (2, 4, 1)})
BLOB = encode_adapter(SMALL)
HEADER, DATA = header_of(BLOB), data_of(BLOB)

SCALARS = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    1.0,
    2**31,
    2**63,
    2**64,
    10**400,
    "",
    "a",
    "b",
    "ab",
    "ba",
    "f8",
    "f64",
    "\0",
]
TOKENS = [b'"', b"{", b"}", b",", b":", b" ", b"9" * 5000, b"NaN", b"-0", b"1e999", b"\\ud800", b"[" * 5000, b"\xff"]

keys = st.text(max_size=4)
hostile = st.sampled_from(SCALARS) | st.floats() | st.lists(st.integers(), max_size=2) | st.dictionaries(keys, keys)


def places(node: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each value of a JSON tree as (object, key)."""
    for key, value in node.items():
        yield node, key
        if isinstance(value, dict):
            yield from places(value)


@st.composite
def changed_headers(draw: st.DrawFn) -> bytes:
    """Draw a valid header after one to three changes of a value, a key or a member."""
    tree = json.loads(HEADER)
    for _ in range(draw(st.integers(1, 3))):
        node, key = draw(st.sampled_from([*places(tree), (tree, "extra")]))
        action = draw(st.sampled_from(["replace", "remove", "rename"]))
        old = node.pop(key, None)
        if action == "replace":
            node[key] = draw(hostile)
        if action == "rename":
            node[draw(keys)] = old
    return compact(tree)


@st.composite
def spliced_headers(draw: st.DrawFn) -> bytes:
    """Draw a valid header with up to six of its bytes replaced by others."""
    start = draw(st.integers(0, len(HEADER)))
    end = draw(st.integers(start, min(start + 6, len(HEADER))))
    return HEADER[:start] + draw(st.sampled_from(TOKENS) | st.binary(max_size=8)) + HEADER[end:]


def adapter_or_error(blob: bytes) -> None:
    try:
        adapter = decode_adapter(blob, known=SMALL)
    except CodecError:
        return
    header = json.loads(header_of(blob))
    omit = {f"{name}.{side}" for name, m in header["modules"].items() for side in {*"ab"} - {*m["sides"]}}
    assert encode_adapter(adapter, header["dtype"], omit) == blob


@settings(max_examples=1200, deadline=None)
@given(changed_headers(), st.sampled_from([DATA, b""]))
def test_a_changed_header(header: bytes, data: bytes) -> None:
    adapter_or_error(sealed(header, data))


@settings(max_examples=1200, deadline=None)
@given(spliced_headers())
def test_a_spliced_header(header: bytes) -> None:
    adapter_or_error(sealed(header, DATA))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(text: bytes) -> None:
    for blob in (text, BLOB[:PREFIX] + text, sealed(text)):
        adapter_or_error(blob)


def test_the_unchanged_header_gives_the_adapter() -> None:
    assert sealed(HEADER, DATA) == BLOB
    assert encode_adapter(decode_adapter(sealed(HEADER, DATA))) == encode_adapter(SMALL)


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace(b'"d":3', b'"d": 3'),
        HEADER.replace(b'"d":3', b'"d":3,"d":3'),
        HEADER.replace(b'"d":3', b'"d":3.0'),
        HEADER.replace(b'"q"', b'"\\u0071"'),
        b" " * 8 + HEADER,
        HEADER.rstrip() + b" " * 8 + b" " * (-len(HEADER.rstrip()) % 8),
        b'{"modules":' + HEADER.split(b'"modules":')[1].rstrip()[:-1] + b',"dtype":"f32"}',
    ],
)
def test_the_same_header_written_otherwise_is_refused(header: bytes) -> None:
    assert json.loads(header) == json.loads(HEADER)
    with pytest.raises(CodecError):
        decode_adapter(sealed(header, DATA))


def test_modules_out_of_order_are_refused() -> None:
    modules = [f'"{name}":{{"d":1,"k":1,"r":0,"sides":"ab"}}' for name in "qv"]
    header = '{{"dtype":"f32","modules":{{{},{}}}}}'
    assert len(decode_adapter(sealed(header.format(*modules).encode()))) == 2
    with pytest.raises(CodecError, match="keys must be sorted and unique"):
        decode_adapter(sealed(header.format(*reversed(modules)).encode()))


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "\ud800"])
def test_a_name_out_of_bounds_is_refused_on_both_sides(name: str) -> None:
    with pytest.raises(CodecError):
        encode_adapter(random_adapter({name: (1, 1, 0)}))
    with pytest.raises(CodecError):
        decode_adapter(sealed(claim({name: (1, 1, 0, "ab")})))
    assert list(decode_adapter(sealed(claim({"x" * 256: (1, 1, 0, "ab")})))) == ["x" * 256]


def test_a_deep_header_is_refused() -> None:
    with pytest.raises(CodecError, match="recursion limit"):
        decode_adapter(sealed(b"[" * 100_000 + b"]" * 100_000))


def test_an_error_names_the_place() -> None:
    with pytest.raises(CodecError, match=r"modules\.q\.r.*greater than or equal to 0"):
        decode_adapter(sealed(HEADER.replace(b'"r":2', b'"r":-2'), DATA))
