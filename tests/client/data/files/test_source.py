import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.data.files import kinds, text
from client.data.files.part import Part
from client.data.files.source import read_rows
from client.data.rows import Row, column_names
from common.errors import DataError


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".JSONL"])
def test_json_lines(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, f"rows{suffix}", '{"text": "good", "label": 1}\r\n{"text": "bad", "label": 0}')
    assert read_rows(path) == (Row(1, {"text": "good", "label": 1}), Row(2, {"text": "bad", "label": 0}))


def test_only_line_feeds_end_a_json_line(tmp_path: Path) -> None:
    text = "one\u2028two\x0bthree\x85four"
    path = write(tmp_path, "rows.jsonl", json.dumps({"text": text}, ensure_ascii=False) + "\n")
    assert len(path.read_text().splitlines()) > 1  # control: what str.splitlines would have made of it
    assert read_rows(path) == (Row(1, {"text": text}),)


def test_a_row_that_is_larger_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, **options: bool) -> bytes:
        raise MemoryError

    monkeypatch.setattr(text, "open_plain", read)
    with pytest.raises(DataError, match=r"rows\.jsonl has a row that is larger than the free memory; split it"):
        read_rows(write(tmp_path, "rows.jsonl", "{}"))


def test_csv_with_quoted_newlines_counts_physical_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", 'text,label\n"two\nlines, ""quoted""",a\nplain,b\n')
    assert read_rows(path) == (
        Row(2, {"text": 'two\nlines, "quoted"', "label": "a"}),
        Row(4, {"text": "plain", "label": "b"}),
    )


def test_csv_from_a_spreadsheet_has_no_mark_in_its_first_column(tmp_path: Path) -> None:
    assert column_names(read_rows(write(tmp_path, "rows.csv", "\ufefftext\nhi\n"))) == ("text",)


def test_quotes_in_tsv_are_plain_characters(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.tsv", 'label\ttext\n1\t" frailty " is good\n')
    assert read_rows(path) == (Row(2, {"label": "1", "text": '" frailty " is good'}),)


def test_parquet_keeps_types(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "hi"}]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"messages": [chat, chat], "label": [3, None]}), path)
    assert read_rows(path) == (
        Row(1, {"messages": chat, "label": 3}),
        Row(2, {"messages": chat, "label": None}),
    )


def test_columns_are_those_of_any_row() -> None:
    assert column_names([Row(1, {"b": 1}), Row(2, {"a": 1, "b": 2})]) == ("b", "a")


@pytest.mark.parametrize(
    ("name", "content", "place", "reason"),
    [
        ("rows.jsn", "[]", "", "ends in '.jsn', which is not a known kind of file; use .jsonl, .ndjson, .json, .csv"),
        ("rows.json", "[]", "", "contains no rows"),
        ("rows", "text\nhi\n", "", "ends in ''"),
        ("rows.jsonl", "", "", "contains no rows"),
        ("rows.csv", "", "", "contains no rows"),
        ("rows.csv", "text,label\n", "", "contains no rows"),
        ("rows.jsonl", '{"text": "a"}\n{"text": \n', ", line 2: ", "is not JSON (Expecting value at column"),
        ("rows.jsonl", '{"text": "a"}\n\n{"text"; "b"}\n', ", line 3: ", "is not JSON"),
        ("rows.jsonl", '{"text": "a"}\n["b"]\n', ", line 2: ", "is not a JSON object"),
        ("rows.jsonl", '{"a": ' + "[" * 100_000, ", line 1: ", "cannot be read as JSON"),
        ("rows.jsonl", "[" * 100_000, ", line 1: ", "is not JSON"),
        ("rows.jsonl", '{"n": ' + "9" * 5000 + "}", ", line 1: ", "cannot be read as JSON"),
        ("rows.csv", "text,label\na,x\nb,y,z\n", ", line 3: ", "has 3 fields where the header has 2"),
        ("rows.csv", "text,label\na,x\nb\n", ", line 3: ", "has 1 fields where the header has 2"),
        ("rows.csv", "text,label\na,x\n\nb\n", ", line 4: ", "has 1 fields where the header has 2"),
        ("rows.tsv", "text\tlabel\na\tx\nb\n", ", line 3: ", "has 1 fields where the header has 2"),
        ("rows.csv", "text,text\na,x\n", ", line 1: ", "names a column twice"),
        ("rows.csv", 'text,label\na,x\n"b,y\nc,z\n', ", line 3: ", "unexpected end of data"),
        ("rows.csv", "text\n" + "a" * (17 << 20), ", line 2: ", "is longer than 16 MiB"),
        ("rows.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', ", line 2: ", "is not UTF-8 (byte 0xe9); set encoding"),
        ("rows.csv", b"\xef\xbb\xbftext\na\ncaf\xe9\n", ", line 3: ", "is not UTF-8 (byte 0xe9); set encoding"),
        ("rows.parquet", b"not parquet", "", "cannot be read as a Parquet file"),
        ("rows.parquet", b"", "", "cannot be read as a Parquet file"),
    ],
)
def test_refusals_name_file_line_and_reason(
    tmp_path: Path, name: str, content: str | bytes, place: str, reason: str
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(DataError) as error:
        read_rows(path)
    assert f"{path}{place}" in str(error.value)
    assert reason in str(error.value)


def test_bytes_that_are_no_text_in_parquet_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    broken = pa.array([b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"text": broken}), path)
    with pytest.raises(DataError, match=r"rows\.parquet cannot be read as a Parquet file"):
        read_rows(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, reason in (
        ("absent.csv", "cannot read .*absent.csv"),
        ("folder.csv", "folder.csv is a folder, not a file"),
    ):
        with pytest.raises(DataError, match=reason):
            read_rows(tmp_path / name)


def test_a_new_kind_of_file_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(path: Path, encoding: str) -> Part:
        return Part(path, "row", lambda: ("text",), lambda meter: iter([Row(1, {"text": path.read_text(encoding)})]))

    monkeypatch.setitem(kinds.KINDS, ".txt", whole)
    assert read_rows(write(tmp_path, "rows.txt", "good")) == (Row(1, {"text": "good"}),)
    with pytest.raises(DataError, match=r"use \.jsonl, .*, \.txt$"):
        read_rows(write(tmp_path, "rows.text", "good"))
