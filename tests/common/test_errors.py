"""Text of others on its way to a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ärzte, 医院 and Ωmega: 50 %", "ärzte, 医院 and Ωmega: 50 %"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("file\udcff", r"file\udcff"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_is_not_printable_is_an_escape(text, shown):
    assert printable(text) == shown


def test_line_breaks_may_stay():
    assert printable("a\nb\x1b\tc", "\n") == "a\nb\\x1b\\tc"


@given(st.text())
def test_any_text_becomes_printable(text):
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
