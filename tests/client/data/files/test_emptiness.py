"""An empty file of rows is told from any other at a glance."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.data.files.emptiness import is_without_rows
from common.errors import DataError

EMPTY = {
    "nothing.jsonl": b"",
    "blank.jsonl": b"\n  \n\r\n",
    "mark.ndjson": b"\xef\xbb\xbf\n",
    "header.csv": b"text,label\n",
    "header-only.csv": b"text,label",
    "header.tsv": b"\ntext\tlabel\n\n",
    "nothing.parquet": b"",
    "nothing.txt": b"",
}
FILLED = {
    "row.jsonl": b'{"text": "a"}',
    "late.jsonl": b"\n\n{}\n",
    "row.csv": b"text,label\na,b",
    "row.tsv": b"text\tlabel\na\tb\n",
    "broken.parquet": b"no parquet at all",
    "long.jsonl": b"x" * 2**20,
}


@pytest.mark.parametrize(("files", "empty"), [(EMPTY, True), (FILLED, False)])
def test_a_file_is_empty_or_it_is_not(files, empty, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert (name, is_without_rows(tmp_path / name)) == (name, empty)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_parquet_file_is_asked_for_its_count(rows, tmp_path):
    pq.write_table(pa.table({"text": ["a"] * rows}), tmp_path / "rows.parquet")
    assert is_without_rows(tmp_path / "rows.parquet") == (rows == 0)


def test_a_folder_is_empty_if_all_of_its_files_are(tmp_path):
    for number in (0, 1):
        (tmp_path / f"train-0000{number}-of-00002.jsonl").write_text("\n")
    assert is_without_rows(tmp_path)
    assert is_without_rows(tmp_path / "train")
    (tmp_path / "train-00001-of-00002.jsonl").write_text('{"text": "a"}\n')
    assert not is_without_rows(tmp_path)


def test_a_folder_without_files_of_rows_is_told(tmp_path):
    with pytest.raises(DataError, match="a folder, not a file, and has no files of rows"):
        is_without_rows(tmp_path)
