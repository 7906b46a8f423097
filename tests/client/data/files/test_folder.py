"""Folders as the library `datasets` and the hub write them, and Arrow's own files."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.data.files.source import open_rows, read_rows
from client.data.labels import ClassNumber, read_label
from client.data.targets.label_sets import read_label_set
from common.errors import DataError

FEATURES = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
HUB = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}


def table(begin: int, count: int, **metadata: object) -> pa.Table:
    numbers = range(begin, begin + count)
    made = pa.table({"text": [f"row {n}" for n in numbers], "label": pa.array([n % 2 for n in numbers], pa.int64())})
    return made.replace_schema_metadata(HUB)


def write_stream(path: Path, rows: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=3)


def save_to_disk(folder: Path, shards: int = 2, **state: object) -> Path:
    """Write what `Dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05}-of-{shards:05}.arrow" for n in range(shards)]
    for number, name in enumerate(names):
        write_stream(folder / name, table(10 * number, 10))
    files = [{"filename": name} for name in names]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_fingerprint": "1", "_split": None} | state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    return folder


def texts(path: Path) -> list[object]:
    return [row.fields["text"] for row in read_rows(path)]


def test_a_saved_data_set_is_read_in_order(tmp_path):
    folder = save_to_disk(tmp_path / "set")
    assert texts(folder) == [f"row {n}" for n in range(20)]
    assert read_rows(folder)[12].line == 3 and read_rows(folder)[12].file == folder / "data-00001-of-00002.arrow"
    assert open_rows(folder).columns == ("text", "label")


def test_a_file_of_a_saved_data_set_is_read_alone(tmp_path):
    folder = save_to_disk(tmp_path / "set")
    assert len(texts(folder / "data-00000-of-00002.arrow")) == 10
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table(0, 4).schema) as writer:
        writer.write_table(table(0, 4))
    assert texts(tmp_path / "a.arrow") == [f"row {n}" for n in range(4)]


def test_of_several_saved_splits_one_is_named(tmp_path):
    for split in ("train", "test"):
        save_to_disk(tmp_path / "set" / split)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(texts(tmp_path / "set" / "train")) == 20
    with pytest.raises(DataError, match=f'several splits; name one: "{tmp_path}/set/train", "{tmp_path}/set/test"'):
        read_rows(tmp_path / "set")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "data-00001-of-00002.arrow").unlink(), "lacks .*data-00001"),
        (lambda folder: (folder / "state.json").write_text("{}"), "names files of rows"),
        (lambda folder: (folder / "state.json").write_text("["), "cannot read .*state.json"),
        (lambda folder: (folder / "state.json").write_text("[]"), "is not a JSON object"),
        (lambda folder: (folder / "data-00000-of-00002.arrow").write_bytes(b"no arrow"), "cannot be read as an Arrow"),
        (lambda folder: (folder / "data-00000-of-00002.arrow").write_bytes(b""), "cannot be read as an Arrow"),
    ],
)
def test_a_saved_data_set_that_is_not_whole_is_refused(tmp_path, damage, reason):
    damage(save_to_disk(tmp_path / "set"))
    with pytest.raises(DataError, match=reason):
        read_rows(tmp_path / "set")


def test_a_choice_of_rows_that_is_kept_apart_is_refused(tmp_path):
    with pytest.raises(DataError, match="flatten_indices"):
        read_rows(save_to_disk(tmp_path / "set", _indices_data_files=[{"filename": "indices.arrow"}]))


def write_shards(folder: Path, split: str, count: int = 2) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pq.write_table(table(10 * number, 10), folder / f"{split}-{number:05}-of-{count:05}.parquet")


def test_shards_are_read_as_one(tmp_path):
    write_shards(tmp_path / "set", "train")
    (tmp_path / "set" / "README.md").write_text("# rows")
    (tmp_path / "set" / ".hidden.jsonl").write_text("no row")
    assert texts(tmp_path / "set") == [f"row {n}" for n in range(20)] == texts(tmp_path / "set" / "train")


def test_of_shards_of_several_splits_one_is_named(tmp_path):
    write_shards(tmp_path / "set", "train")
    write_shards(tmp_path / "set", "test", 1)
    assert (len(texts(tmp_path / "set" / "train")), len(texts(tmp_path / "set" / "test"))) == (20, 10)
    with pytest.raises(DataError, match=f'several splits; name one: "{tmp_path}/set/test", "{tmp_path}/set/train"'):
        read_rows(tmp_path / "set")
    with pytest.raises(DataError, match=r"cannot read .*validation"):
        read_rows(tmp_path / "set" / "validation")


def test_files_of_a_split_are_named_like_it(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "test.jsonl").write_text('{"text": "b"}\n')
    assert texts(tmp_path / "train") == ["a"]
    with pytest.raises(DataError, match="several splits"):
        read_rows(tmp_path)


def write_rows(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps({"text": name}) + "\n")


@pytest.mark.parametrize("word", ["train", "test", "validation", "dev", "evaluation"])
def test_several_files_of_one_split_are_read_as_one(tmp_path, word):
    write_rows(tmp_path, f"{word}-1.jsonl", f"{word}_2024.jsonl", f"{word}.jsonl")
    assert len(texts(tmp_path)) == len(texts(tmp_path / word)) == 3


def test_words_that_begin_as_a_split_does_are_none(tmp_path):
    names = ["devices.jsonl", "testimonials.jsonl", "trainees.jsonl", "valencia.jsonl"]
    write_rows(tmp_path, *names)
    assert texts(tmp_path) == names


def test_a_split_beside_other_files_is_named(tmp_path):
    write_rows(tmp_path, "train.jsonl", "more.jsonl")
    with pytest.raises(
        DataError, match=f"files of the split 'train' and others, as more.jsonl; give \"{tmp_path}/train\""
    ):
        read_rows(tmp_path)
    assert texts(tmp_path / "train") == ["train.jsonl"]


def test_rows_in_a_folder_below_are_not_left_out_without_a_word(tmp_path):
    write_rows(tmp_path, "a.jsonl", "more/b.jsonl", ".cache/c.jsonl", "_tmp/d.jsonl")
    with pytest.raises(DataError, match="has files of rows in it and in more/"):
        read_rows(tmp_path)
    (tmp_path / "more" / "b.jsonl").rename(tmp_path / "more" / "notes.txt")
    assert texts(tmp_path) == ["a.jsonl"]


def test_a_pattern_is_told_that_it_is_none(tmp_path):
    write_rows(tmp_path, "a.jsonl")
    with pytest.raises(DataError, match="No such file or directory; patterns are not read: give the folder"):
        read_rows(tmp_path / "*.jsonl")


def test_parts_without_a_split_are_read_by_name(tmp_path):
    (tmp_path / "part-0001.jsonl").write_text('{"text": "b", "label": 1}\n')
    (tmp_path / "part-0000.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "_SUCCESS").write_text("")
    assert texts(tmp_path) == ["a", "b"]
    assert open_rows(tmp_path).columns == ("text", "label")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: None, "a folder, not a file, and has no files of rows; it needs files that end in .jsonl"),
        (
            lambda folder: (folder / "data").mkdir(),
            "a folder, not a file, and has no files of rows; give one of its folders: data",
        ),
        (lambda folder: (folder / "notes.txt").write_text("a"), "a folder, not a file, and has no files of rows"),
        (lambda folder: [(folder / f"a.{kind}").write_text("text\nb\n") for kind in ("csv", "jsonl")], "several kinds"),
        (lambda folder: pq.write_table(table(0, 2), folder / "train-00001-of-00003.parquet"), "lacks shard 0 of 3"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path, make, reason):
    make(tmp_path)
    with pytest.raises(DataError, match=reason):
        read_rows(tmp_path)


def test_a_bad_row_is_named_by_the_file_that_has_it(tmp_path):
    (tmp_path / "part-0000.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "part-0001.jsonl").write_text('{"text": "b"}\n{"text"}\n')
    with pytest.raises(DataError, match=r"part-0001\.jsonl, line 2: is not JSON"):
        read_rows(tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_found_D2_a_class_has_its_number_and_its_name(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    (pq.write_table(table(0, 2), path) if kind == "parquet" else write_stream(path, table(0, 2)))
    rows = read_rows(path)
    assert [row.fields["label"] for row in rows] == [0, 1]
    assert isinstance(rows[1].fields["label"], ClassNumber)
    assert [read_label(row.fields, "label", ("0", "1")) for row in rows] == [0, 1]
    assert [read_label(row.fields, "label", ("pos", "neg")) for row in rows] == [1, 0]


@pytest.mark.parametrize(
    "metadata", [{}, {b"huggingface": b"no json"}, {b"huggingface": b'{"info": {"features": []}}'}]
)
def test_other_notes_beside_a_table_name_no_class(tmp_path, metadata):
    pq.write_table(table(0, 2).replace_schema_metadata(metadata), tmp_path / "rows.parquet")
    assert type(read_rows(tmp_path / "rows.parquet")[0].fields["label"]) is int


def test_two_columns_of_one_name_are_refused(tmp_path):
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    write_stream(tmp_path / "rows.arrow", twice)
    with pytest.raises(DataError, match="two columns have one name: text, text"):
        read_rows(tmp_path / "rows.arrow")


@pytest.mark.parametrize("kind", ["Sequence", "List"])
def test_found_D12_the_classes_of_a_list_are_known_by_number_and_name(kind, tmp_path):
    inner = {"names": ["neg", "pos", "odd"], "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"feature": inner, "_type": kind}}
    made = pa.table({"text": ["a", "b", "c"], "label": pa.array([[0, 1, 0], [], [2]], pa.list_(pa.int64()))})
    named = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(made.replace_schema_metadata(named), tmp_path / "rows.parquet")
    rows = [row.fields for row in read_rows(tmp_path / "rows.parquet")]
    for labels in (("neg", "odd", "pos"), ("0", "2", "1")):
        found = [read_label_set(row, "label", labels).tolist() for row in rows]
        assert found == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    pq.write_table(made.replace_schema_metadata(None), tmp_path / "rows.parquet")  # control: without names, a vector
    first = read_rows(tmp_path / "rows.parquet")[0].fields
    assert read_label_set(first, "label", ("neg", "odd", "pos")).tolist() == [0, 1, 0]
