"""Tables as spreadsheets and data frames write them."""

import json
from pathlib import Path

import pytest

from client.data.files.source import read_rows
from common.errors import DataError

NAMES = ("text", "label")


def fields(folder: Path, content: str | bytes, name: str = "rows.csv") -> list[dict[str, object]]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [dict(row.fields) for row in read_rows(path)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.CSV"])
def test_found_D4_the_header_tells_the_delimiter(tmp_path, delimiter, end, name):
    lines = ["text,label", "a good film,pos", "bad,neg"]
    content = end.join(lines).replace(",", delimiter)
    expected = [dict(zip(NAMES, line.split(","), strict=True)) for line in lines[1:]]
    assert fields(tmp_path, content, name) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('"text";"label"\n"one, two; three";"a"\n', {"text": "one, two; three", "label": "a"}),
        ('"text, long";label\nx;a\n', {"text, long": "x", "label": "a"}),
        ('"text; long",label\nx,a\n', {"text; long": "x", "label": "a"}),
        ("text,label\none; two; three,a\n", {"text": "one; two; three", "label": "a"}),
        ("text,label\none|two|three,a;b\n", {"text": "one|two|three", "label": "a;b"}),
        ("text; note,label\none; two,a\n", {"text; note": "one; two", "label": "a"}),
        ("label;text, raw\na;one\n", {"label": "a", "text, raw": "one"}),
        ("text\none; two\n", {"text": "one; two"}),
        ('text\n"one, two"\n', {"text": "one, two"}),
        ('"text"\n"one\ttwo"\n', {"text": "one\ttwo"}),
        ("sep=;\ntext;label\none, two;a\n", {"text": "one, two", "label": "a"}),
        ("\ufefftext;label\none;a\n", {"text": "one", "label": "a"}),
        ("text;label;price\none;a;1,50\n", {"text": "one", "label": "a", "price": "1,50"}),
        ('text,label\n"one\n\ntwo",a\n', {"text": "one\n\ntwo", "label": "a"}),
        ('text\tlabel\n"one\ttwo"\ta\n', {"text": "one\ttwo", "label": "a"}),
        (",text,label\n0,one,a\n", {"": "0", "text": "one", "label": "a"}),
    ],
)
def test_found_D4_text_is_not_taken_for_a_delimiter(tmp_path, content, expected):
    assert fields(tmp_path, content) == [expected]


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_found_D4_a_blank_after_each_delimiter_belongs_to_it(tmp_path, delimiter):
    content = 'text, label\none, a\n"two, three", b\n'.replace(", ", f"{delimiter} ")
    expected = [{"text": "one", "label": "a"}, {"text": f"two{delimiter} three", "label": "b"}]
    assert fields(tmp_path, content) == expected
    plain = content.replace(f"text{delimiter} label", f"text{delimiter}label")
    assert fields(tmp_path, plain)[0]["label"] == " a"  # control: the header has none


def test_found_D4_empty_columns_of_a_sheet_are_not_read(tmp_path):
    assert fields(tmp_path, "text;label;;\none;a;;\ntwo;b;;x\n") == [
        {"text": "one", "label": "a"},
        {"text": "two", "label": "b"},
    ]
    with pytest.raises(DataError, match="names a column twice: text, text; rename one"):
        fields(tmp_path, "text;text;;\none;a;;\n")


def test_found_D4_quotes_that_enclose_the_header_of_a_tsv_enclose_fields(tmp_path):
    assert fields(tmp_path, '"text"\t"label"\n"a ""b"""\t"c"\n', "rows.tsv") == [{"text": 'a "b"', "label": "c"}]
    assert fields(tmp_path, 'text\tlabel\n"a ""b"""\t"c"\n', "rows.tsv") == [{"text": '"a ""b"""', "label": '"c"'}]


@pytest.mark.parametrize(
    "blank",
    ["\n", "\r\n", "\n\n\n", "   \n", "\t\n"],
)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_found_D1_blank_lines_of_a_table_are_skipped(tmp_path, blank, place):
    lines = ["text,label\n", "one,a\n", "two,b\n"]
    lines.insert(place, blank)
    path = tmp_path / "rows.csv"
    path.write_bytes("".join(lines).encode())
    rows = read_rows(path)
    assert [dict(row.fields) for row in rows] == [{"text": "one", "label": "a"}, {"text": "two", "label": "b"}]
    after = path.read_bytes().decode().replace("\r\n", "\n").split("\n")
    assert [after[row.line - 1] for row in rows] == ["one,a", "two,b"]


def test_found_D1_a_blank_line_is_not_an_empty_field(tmp_path):
    """A line of delimiters alone is a row, whose fields are empty: pandas reads it as one, too."""
    assert fields(tmp_path, "text,label\none,a\n,\n")[1] == {"text": "", "label": ""}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le+", "utf-16-be+"])
def test_found_D4_a_mark_tells_the_encoding(tmp_path, encoding):
    text = "text;label\ncafé ☕;a\n"
    content = ("\ufeff" + text).encode(encoding[:-1]) if encoding.endswith("+") else text.encode(encoding)
    assert fields(tmp_path, content) == [{"text": "café ☕", "label": "a"}]


def test_found_D4_another_encoding_is_named_and_its_absence_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text;label\nplain;a\ncafé;b\n".encode("latin-1"))
    assert [row.fields["text"] for row in read_rows(path, "latin-1")] == ["plain", "café"]
    with pytest.raises(DataError, match=r"line 3: is not UTF-8 \(byte 0xe9\); set encoding .*latin-1"):
        read_rows(path)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "iso8859-15", "cp1251", "mac-roman", "ascii"])
def test_found_D4_utf_8_is_not_read_by_an_encoding_of_single_bytes(tmp_path, encoding):
    path = tmp_path / "rows.csv"
    path.write_bytes("text;label\nplain;a\ncafé;b\n".encode())
    with pytest.raises(DataError, match=f"line 3: is UTF-8, not {encoding.upper()}; leave out encoding"):
        read_rows(path, encoding)
    assert read_rows(path, "utf-8")[1].fields["text"] == "café"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "café, naïve, Ärger, ½ £"),
        ("cp1252", "it’s “so” – 5 €…"),
        ("cp1251", "АО «Ромашка» — Москва"),
        ("shift_jis", "日本語"),
    ],
)
def test_found_D4_text_in_its_own_encoding_is_not_taken_for_utf_8(tmp_path, encoding, text):
    assert fields_in(tmp_path, encoding, text) == text


def test_found_D4_a_byte_that_latin_1_has_no_letter_for_is_told_with_windows_own(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text;label\nit’s;a\n".encode("cp1252"))
    with pytest.raises(DataError, match='line 2: has the byte 0x92, no letter of LATIN-1; set encoding = "cp1252"'):
        read_rows(path, "latin-1")
    assert read_rows(path, "cp1252")[0].fields["text"] == "it’s"


def fields_in(folder, encoding, text):
    """Return a text that was written and read in an encoding."""
    path = folder / "rows.jsonl"
    path.write_bytes(json.dumps({"text": text}, ensure_ascii=False).encode(encoding))
    return read_rows(path, encoding)[0].fields["text"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"text,label\nab\0c,a\nfine,b\n", "line 2: contains a NUL byte"),
        (b"text,label\nab,a\nfine,b,c\n", "line 3: has 3 fields where the header has 2"),
        (b'text,label\n"ab,a\nfine,b\n', "line 2: unexpected end of data; fix the row's quotes"),
        (b'text,label\n"ab"c,a\nfine,b\n', "line 2: .*; fix the row's quotes"),
        (b"text,label,text\na,b,c\n", "line 1: the header names a column twice: text, label, text"),
        (b"text\na, b\n", "line 2: has 2 fields where the header has 1; put a text with ',' in quotes"),
        (b"te\xe9xt,label\na,b\n", "line 1: the header is not UTF-8"),
        (b"text,label\n", "contains no rows"),
        (b"\n\n", "contains no rows"),
    ],
)
def test_what_is_no_table_is_refused_by_line(tmp_path, content, reason):
    with pytest.raises(DataError, match=reason):
        fields(tmp_path, content)
