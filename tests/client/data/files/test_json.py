"""JSON as people save it: lines, one list, or an object around a list; told by content."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pytest

from client.data.files import json_document
from client.data.files.source import open_rows, read_rows
from common.errors import DataError

ROWS = [{"text": f'row {number} [x], {{y}} "z" é', "label": number % 2} for number in range(50)]


def fields(folder: Path, content: str | bytes, name: str = "rows.json") -> list[dict[str, object]]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [dict(row.fields) for row in read_rows(path)]


SPELLINGS = {
    "a list": json.dumps(ROWS),
    "a printed list": json.dumps(ROWS, indent=2, ensure_ascii=False),
    "a list with blanks": "\n\n  " + json.dumps(ROWS) + " \n\n",
    "lines": "\n".join(map(json.dumps, ROWS)),
    "lines with blanks": "\n\n" + "\n\r\n \n".join(map(json.dumps, ROWS)) + "\n\n",
    "an object with a list": json.dumps({"version": 1, "data": ROWS, "authors": ["a"]}, indent=1),
    "an object with a list on one line": json.dumps({"data": ROWS}),
    "a list with a mark": "\ufeff" + json.dumps(ROWS),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("packed", [False, True])
def test_found_D3_a_json_file_is_known_by_its_content(tmp_path, spelling, packed):
    content = SPELLINGS[spelling].encode()
    if packed:
        assert fields(tmp_path, gzip.compress(content), "rows.json.gz") == ROWS
    else:
        assert fields(tmp_path, content) == ROWS


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson"])
@pytest.mark.parametrize("spelling", ["a list", "a printed list", "lines", "lines with blanks"])
def test_found_D3_whatever_its_ending(tmp_path, name, spelling):
    assert fields(tmp_path, SPELLINGS[spelling], name) == ROWS


def test_found_D3_a_list_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(json_document, "_PIECE", 7)
    assert fields(tmp_path, SPELLINGS["a printed list"]) == ROWS
    assert fields(tmp_path, SPELLINGS["a list"]) == ROWS


@pytest.mark.parametrize("blank", ["\n", "\r\n", "  \n", "\n\n"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_found_D1_blank_lines_between_objects_are_skipped(tmp_path, blank, place):
    lines = ['{"text": "a"}\n', '{"text": "b"}\n']
    lines.insert(place, blank)
    content = "".join(lines)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content.encode())
    rows = read_rows(path)
    assert [row.fields["text"] for row in rows] == ["a", "b"]
    assert [content.split("\n")[row.line - 1].strip() for row in rows] == ['{"text": "a"}', '{"text": "b"}']


def test_found_D3_one_chat_is_a_row_not_a_list_of_rows(tmp_path):
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert fields(tmp_path, json.dumps(chat)) == [chat]
    assert fields(tmp_path, json.dumps([chat, chat])) == [chat, chat]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"text": "a"}, ["b"]]', "row 2: is not a JSON object"),
        ('[{"text": "a"}, {"text": "b", "text": "c"}, 3]', "row 2: names the key 'text' twice"),
        ('[{"text": "a"}\n{"text": "b"}]', "line 2: is not JSON .*expected ','"),
        ('[{"text": "a"},\n{"text": b}]', "line 2: is not JSON .*Expecting value"),
        ('[{"text": "a"}', "is not JSON .*the end of the file"),
        ('[{"text": "a"}]\n[{"text": "b"}]', "line 2: is not JSON .*more after the list"),
        ('[{"text": "a"}, ', "is not JSON"),
        ("[]", "contains no rows"),
        ("{}", "'?contains no rows|row 1|1 "),
        ('{"train": [{"text": "a"}], "test": [{"text": "b"}]}', "several lists of rows, 'train', 'test'"),
        ('{"text": ["a", "b"], "label": [0, 1]}', "an object of columns, not of rows"),
        ('{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 0}}', "an object of columns, not of rows"),
        ('{\n "text": "a",\n "label"\n}', "is not JSON .*line 4, column 1.*use a list of objects"),
        ('{"a": {"text": "x"}, "b": {"text": "y"}}', "or has rows by key; write it as a list of objects"),
        ("text,label\na,b\n", "line 1: is not JSON"),
        ('"text"', "line 1: is not a JSON object"),
        ("", "contains no rows"),
    ],
)
def test_found_D3_what_is_no_list_of_rows_is_refused(tmp_path, content, reason):
    if content == "{}":
        assert fields(tmp_path, content) == [{}]
        return
    with pytest.raises(DataError, match=reason):
        fields(tmp_path, content)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a", "text": "b"}', "names the key 'text' twice"),
        (b'{"messages": [{"role": "a", "role": "b"}]}', "names the key 'role' twice"),
        (b'{"text": "a\0b"}', "contains a NUL byte"),
        (b'{"text": "caf\xe9"}', r"is not UTF-8 \(byte 0xe9\); set encoding"),
        (b'{"text": "' + b"a" * (17 << 20) + b'"}', "is longer than 16 MiB"),
        (b'{"text": "a"} {"text": "b"}', "is not JSON .Extra data"),
    ],
)
def test_a_hostile_line_is_named_and_the_others_are_read(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "first"}\n' + line + b'\n{"text": "last"}\n')
    with pytest.raises(DataError, match=f"1 of 3 rows cannot be used; fix or remove them\n.*line 2: {reason}"):
        read_rows(path)
    assert [row.fields["text"] for chunk in open_rows(path).chunks() for row in chunk] == ["first", "last"]


def zstd(data):
    """Pack as a `.zst` file."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "Zstandard": zstd}
MANY = "\n".join(f'{{"text": "{n * 7919}"}}' for n in range(50_000)).encode()


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_a_packed_file_is_known_by_its_content(tmp_path, packer, name):
    (tmp_path / name).write_bytes(PACKERS[packer](MANY))
    shares = []
    source = open_rows(tmp_path / name)
    rows = [row for chunk in source.chunks(shares.append) for row in chunk]
    assert (len(rows), rows[-1].fields["text"]) == (50_000, str(49_999 * 7919))
    assert shares[-1] == 1.0 and shares == sorted(shares) and len(shares) > 10


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:12] + b"\xff" * 40 + data[52:]])
def test_a_damaged_packed_file_is_refused(tmp_path, packer, damage):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(damage(PACKERS[packer](MANY)))
    with pytest.raises(DataError, match=f"cannot be unpacked as {packer} .*; pack it again"):
        read_rows(path)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PAR1", "a Parquet file; name it .parquet"),
        (b"ARROW1", "an Arrow file; name it .arrow"),
        (b"PK\x03\x04", "a ZIP archive or a spreadsheet; unpack it, or save the sheet as CSV"),
        (b"%PDF-1.7", "a PDF"),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json"])
def test_a_file_that_is_no_text_is_told_what_it_is(tmp_path, name, head, what):
    (tmp_path / name).write_bytes(head + bytes(range(256)))
    with pytest.raises(DataError, match=f"{name} is {what}"):
        read_rows(tmp_path / name)


def test_a_sheet_is_to_be_saved_as_a_table(tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"ends in '\.xlsx', which is not a known kind of file; save the sheet as CSV"):
        read_rows(tmp_path / "rows.xlsx")
