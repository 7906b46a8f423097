"""Rows that cannot be used: counted over all steps, and left out where that is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest

from client.data import rows as row_pieces
from client.data.files import source
from client.data.files.source import open_rows
from client.objectives.encoding import BadPlace, Findings
from client.objectives.examples import Examples, encode_pieces, split_held_out
from common.errors import DataError
from tests.helpers.client.toy_tokenizer import node_data, word_tokenizer

GOOD = [{"prompt": f"w{n}", "completion": f"w{n + 1} w{n + 2}"} for n in range(20)]
LABELLED = {"task": "classification", "labels": ("no", "yes")}


def encode(path: Path, **settings: object) -> Examples:
    data = node_data(**settings)
    return encode_pieces(open_rows(path, data.encoding).chunks(), data, word_tokenizer(eos_token="<eos>"), path)


def write(folder: Path, rows: list[object]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def mixed(folder: Path) -> Path:
    """Twenty good rows, and one that each step refuses: reading, columns, types, and nothing to learn."""
    bad: dict[int, object] = {
        2: '{"prompt": ',
        5: {"prompt": "w1", "completion": None},
        6: ["w1"],
        9: {"prompt": "w1", "completion": 7},
        13: {"prompt": "w1 " * 9, "completion": "w2"},
        14: {"prompt": "w1 " * 9, "completion": "w3"},
        21: {"prompt": "half \ud83d", "completion": "w1"},
    }
    rows: list[object] = list(GOOD)
    for place, row in bad.items():
        rows.insert(place, row)
    return write(folder, rows)


def ids(examples: Examples) -> list[tuple[list[int], list[int]]]:
    return [(list(row.ids), np.asarray(row.targets).tolist()) for row in examples.rows]  # type: ignore[attr-defined]


def test_found_D7_all_unusable_rows_are_counted_in_one_message(tmp_path):
    path = mixed(tmp_path)
    with pytest.raises(DataError) as error:
        encode(path, max_length=8)
    head, *lines = str(error.value).splitlines()
    assert head == (
        f"{path}: 7 of 27 rows cannot be used; fix or remove them, or set skip_bad_rows = true (in a recipe: [data] "
        "skip_bad_rows) to leave them out"
    )
    assert [line.partition(": ")[0] for line in lines[:5]] == [f"{path}, line {n}" for n in (3, 6, 7, 10, 14)]
    assert "is not JSON" in lines[0] and "nothing to learn" in lines[4]
    assert lines[5] == "and 2 more"


@pytest.mark.parametrize("piece", [1, 2, 3, 1024])
def test_found_D7_unusable_rows_are_left_out_where_asked(tmp_path, piece, monkeypatch):
    monkeypatch.setattr(source, "PIECE", piece)
    examples = encode(mixed(tmp_path), max_length=8, skip_bad_rows=True)
    assert [place.line for place in examples.found.skipped] == [3, 6, 7, 10, 14, 15, 22]
    (tmp_path / "good").mkdir()
    assert ids(examples) == ids(encode(write(tmp_path / "good", list(GOOD)), max_length=8))


def test_found_D7_they_are_listed_by_reason(tmp_path):
    examples = encode(mixed(tmp_path), max_length=8, skip_bad_rows=True)
    lines = list(examples.found.by_reason())
    assert len(lines) == 6
    assert lines[4] == "2 rows left out (line 14, 15): has nothing to learn in its first 8 tokens; raise max_length"


def test_found_D7_reasons_that_differ_only_in_values_are_one():
    places = [BadPlace(Path("a"), "line", n, f"'label' is 'x{n}', which is not in labels; known: a") for n in range(9)]
    assert list(Findings(tuple(places)).by_reason()) == [
        "9 rows left out (line 0, 1, 2, 3, 4, ...): 'label' is 'x0', which is not in labels; known: a"
    ]
    other = BadPlace(Path("a"), "line", 9, "'text' is empty")
    assert len(list(Findings((*places, other)).by_reason())) == 2


def test_found_D7_a_file_of_which_nothing_is_left_is_refused(tmp_path):
    path = write(tmp_path, [{"text": None}, {"text": ""}])
    with pytest.raises(DataError, match="2 of 2 rows cannot be used; fix them\n"):
        encode(path, skip_bad_rows=True)


def test_found_D7_a_missing_column_is_not_a_bad_row(tmp_path):
    with pytest.raises(DataError, match="which contain neither"):
        encode(write(tmp_path, [{"body": "w1"}] * 3), skip_bad_rows=True)


def test_found_D7_both_parts_of_a_split_know_what_was_left_out(tmp_path):
    examples = encode(mixed(tmp_path), max_length=8, skip_bad_rows=True)
    train, held = split_held_out(examples, "clinic")
    assert (len(train) + len(held), train.found, held.found) == (20, examples.found, examples.found)


def test_the_columns_of_all_rows_decide_the_layout(tmp_path, monkeypatch):
    """Also of those far behind: a first piece of texts is no reason to read chats as texts."""
    monkeypatch.setattr(source, "PIECE", 1)
    rows = [{"text": "w1 w2"}, {"text": "w1", "prompt": "w1", "completion": "w2"}]
    with pytest.raises(DataError, match=r"1 of 2 rows cannot be used.*\n.*line 1: 'prompt' is empty"):
        encode(write(tmp_path, list(rows)))


def test_rows_in_memory_are_read_in_pieces_too(monkeypatch):
    monkeypatch.setattr(row_pieces, "PIECE", 2)
    chunks = list(row_pieces.in_chunks([row_pieces.Row(n, {"text": "w1"}) for n in range(5)], Path("a")))
    assert [[row.line for row in chunk] for chunk in chunks] == [[0, 1], [2, 3], [4]]
    assert {chunk.columns for chunk in chunks} == {("text",)}


def test_found_D11_labels_that_look_alike_are_told(tmp_path):
    rows = [{"text": "w1", "label": label} for label in ("no", "No", "no", "yes")]
    path = write(tmp_path, list(rows))
    found = encode(path, **{**LABELLED, "labels": ("no", "No", "yes")}).found
    assert found.warnings == (
        f"{path}: 'label' has values that differ only by case or blanks (rows): 'No' (1), 'no' (2); write "
        "them alike if they are one",
    )
    assert encode(write(tmp_path, [*rows[:1], *rows[3:]]), **LABELLED).found.warnings == ()


def test_found_D11_labels_of_the_node_that_look_alike_are_told_though_it_has_rows_of_one(tmp_path):
    path = write(tmp_path, [{"text": "w1", "label": label} for label in ("no", "yes")])
    (warning,) = encode(path, **{**LABELLED, "labels": ("no", "No", "yes")}).found.warnings
    assert "'No' (0), 'no' (1)" in warning
    numbers = write(tmp_path, [{"text": "w1", "label": label} for label in ("0.0", "1.0")])
    assert encode(numbers, **{**LABELLED, "labels": ("0", "1")}).found.warnings == ()


def test_found_D1_latin_1_is_read_where_it_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text;label\nw1 é;no\nw2;yes\n".encode("latin-1"))
    assert len(encode(path, encoding="latin-1", **LABELLED)) == 2
    with pytest.raises(DataError, match='set encoding to that of the file, such as "latin-1"'):
        encode(path, **LABELLED)
