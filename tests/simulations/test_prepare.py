import json
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.data.files.source import read_rows
from client.node import load_node
from common.errors import ConfigError, DataError, ModelError
from common.settings.reader import parse_settings
from common.settings.recipe import Recipe
from simulations.corpora import toy
from simulations.corpora.corpus import to_jsonl
from simulations.prepare import prepare, write_nodes, write_test
from simulations.recipe import read_recipe
from tests.helpers.end_to_end.command import TINY
from tests.helpers.simulations.runs import toy_rows, write_recipe

OWNER = ("clients.partition=column", "clients.column=day")
LABELS = ("farm", "harbour", "kitchen", "station")


def tiny(*settings):
    return prepare(read_recipe(TINY, list(settings)))


@pytest.fixture(scope="module")
def prepared():
    return tiny("clients.count=6", "clients.ranks=[1, 2, 4]")


def test_every_row_is_with_one_client_or_in_the_test(prepared):
    kept = [row["text"] for shard in prepared.shards for row in shard.rows] + [
        row["text"] for row in prepared.test_rows
    ]
    assert Counter(kept) == Counter(row["text"] for row in toy.load().rows)


def test_test_rows_are_balanced(prepared):
    assert Counter(row["label"] for row in prepared.test_rows) == dict.fromkeys(LABELS, 20)


def test_nodes_bear_the_names_of_the_shards_and_ranks_in_turn(prepared):
    assert [node.name for node in prepared.nodes] == [shard.name for shard in prepared.shards]
    assert [node.rank for node in prepared.nodes] == [1, 2, 4, 1, 2, 4]
    assert len({node.name for node in prepared.nodes}) == 6


def test_all_nodes_know_all_labels_even_those_they_lack():
    prepared = tiny("clients.partition=column", "clients.column=label")
    assert {node.data.labels for node in prepared.nodes} == {LABELS}
    assert [{row["label"] for row in shard.rows} for shard in prepared.shards] == [{label} for label in LABELS]


def test_another_seed_deals_otherwise(prepared):
    same, other = (tiny("clients.count=6", "clients.ranks=[1, 2, 4]", f"seed={seed}") for seed in (1, 2))
    assert same.shards == prepared.shards
    assert other.shards != prepared.shards
    assert other.test_rows != prepared.test_rows


def test_rows_that_are_cut_are_counted(prepared):
    assert prepared.truncated == 0
    assert tiny("data.max_length=8").truncated > 300


def test_where_the_rows_come_from_is_told_with_a_hash(prepared, tmp_path):
    assert prepared.source == f"toy, SHA-256 {toy.load().sha256}"


def own(tmp_path, rows, **data):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_recipe(write_recipe(tmp_path, file, **data), [])


def test_columns_that_nobody_asked_for_stay_where_they_are(tmp_path):
    rows = [row | {"patient": "Jane Doe"} for row in toy_rows(text="words", label="place")]
    prepared = prepare(own(tmp_path, rows, text="words", label="place"))
    assert {column for shard in prepared.shards for row in shard.rows for column in row} == {"words", "place"}


def test_whole_numbers_are_labels_too(tmp_path):
    rows = [{"text": row["text"], "label": LABELS.index(row["label"])} for row in toy.load().rows]
    assert {node.data.labels for node in prepare(own(tmp_path, rows)).nodes} == {("0", "1", "2", "3")}


def test_an_owner_may_be_a_date_and_other_columns_anything(tmp_path):
    file = tmp_path / "rows.parquet"
    days = [{"day": date(2026, 1, 1 + number % 3), "raw": b"\xff"} for number in range(120)]
    rows = [row | day for row, day in zip(toy_rows(text="text", label="label"), days, strict=False)]
    pq.write_table(pa.Table.from_pylist(rows), file)
    recipe = read_recipe(write_recipe(tmp_path, file), ["clients.count=3", "clients.ranks=[2]", *OWNER])
    files = write_nodes(tmp_path / "nodes", prepare(recipe))
    assert [load_node(file).settings.name for file in files] == ["2026-01-01", "2026-01-02", "2026-01-03"]


def test_a_node_reads_back_what_was_written_for_it(prepared, tmp_path):
    files = write_nodes(tmp_path / "nodes", prepared)
    assert sorted(path.name for path in (tmp_path / "nodes").iterdir()) == sorted(
        f"{node.name}.{kind}" for node in prepared.nodes for kind in ("toml", "jsonl")
    )
    for file, node, shard in zip(files, prepared.nodes, prepared.shards, strict=True):
        loaded = load_node(file)
        assert replace(loaded.settings, data=node.data, base=node.base) == node
        assert replace(loaded.settings.data, path="") == node.data
        assert Path(loaded.settings.base.path) == Path(node.base.path)
        assert len(loaded.train) + len(loaded.held) == len(shard.rows)
        assert [dict(row.fields) for row in read_rows(Path(loaded.settings.data.path))] == [
            dict(row) for row in shard.rows
        ]


def test_writing_again_changes_nothing(prepared, tmp_path):
    files = [path.read_bytes() for path in write_nodes(tmp_path, prepared)]
    assert [path.read_bytes() for path in write_nodes(tmp_path, prepared)] == files


def test_test_rows_are_written_beside_their_settings(prepared, tmp_path):
    write_test(tmp_path, prepared)
    assert load_node(tmp_path / "test.toml").settings.data.labels == LABELS
    assert len(read_rows(tmp_path / "test.jsonl")) == 80


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        (("base.path=/no/such/base",), ModelError, "/no/such/base"),
        (("lora.targets=qery",), ConfigError, "'query'"),
        (("clients.ranks=[33]",), ConfigError, "at most 32"),
        (("clients.ranks=[1, 1, 1, 1, 1]",), ConfigError, "5 ranks for 4 clients"),
        (("clients.count=400",), DataError, "too few"),
        (("clients.partition=column", "clients.column=lable"), DataError, "'lable'"),
        (("clients.partition=column", "data.corpus=unread"), ConfigError, r"needs \[clients\] column"),
        (("data.task=causal-lm", "base.path=tiny:gpt2"), ConfigError, "partition"),
        (("server.algorithm=fedavg",), ConfigError, "'fedit'"),
        (("server.algorithm=fedlin", "base.path=/read/later"), ConfigError, 'mode = "b"'),
        (("server.weights=nrom", "base.path=/read/later"), ConfigError, "'norm'"),
        (("server.codec=plian", "base.path=/read/later"), ConfigError, "'plain'"),
    ],
)
def test_faults_are_found_before_anything_is_written(settings, kind, said):
    with pytest.raises(kind, match=said):
        tiny(*settings)


@pytest.mark.parametrize(
    ("rows", "said"),
    [([{"text": "cow", "label": "farm"}] * 40, "all rows are 'farm'"), ([{"text": "a", "label": ""}] * 40, "empty")],
)
def test_two_classes_are_needed(tmp_path, rows, said):
    with pytest.raises(ConfigError, match=said):
        prepare(own(tmp_path, rows))


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_a_row_beyond_the_positions_of_the_base_is_told_before_anything_is_written(tmp_path, kind):
    rows = toy_rows(text="text", label="label")
    rows[5]["text"] = "barn " * 900
    (tmp_path / "rows.jsonl").write_bytes(to_jsonl(rows))
    words = [f"base.path=tiny:{kind}"]
    recipe = read_recipe(write_recipe(tmp_path, tmp_path / "rows.jsonl", max_length=2000), words)
    with pytest.raises(ConfigError, match=r"max_length = 2000 .* has only 51\d positions; set max_length = 51\d"):
        prepare(recipe)
    prepare(read_recipe(write_recipe(tmp_path, tmp_path / "rows.jsonl", max_length=510), words))


def rows_with_bad_ones(folder: Path) -> Path:
    path = folder / "rows.csv"
    lines = [f"good film {n};{'pos' if n % 2 else 'neg'}" for n in range(120)]
    lines[7], lines[50], lines[90] = ";pos", "a film;", "three;fields;here"
    path.write_text("\n".join(["text;label", *lines]), encoding="utf-16")
    return path


LEAST = {
    "base": {"path": "tiny:bert"},
    "clients": {"count": 3, "partition": "iid"},
    "train": {"rounds": 1, "steps": 1, "batch": 2},
}


def skipping(path: Path, skip: bool = True):
    data = {"path": str(path), "test_rows": 20, "skip_bad_rows": skip}
    return prepare(parse_settings(Recipe, {**LEAST, "data": data}, "r.toml"))


def test_found_D7_unusable_rows_are_not_dealt_out_and_each_time_the_same(tmp_path):
    path = rows_with_bad_ones(tmp_path)
    first, again = skipping(path), skipping(path)
    assert [place.line for place in first.found.skipped] == [9, 52, 92]
    assert first.nodes[0].data.labels == ("neg", "pos")
    assert sum(len(shard.rows) for shard in first.shards) + len(first.test_rows) == 117
    assert first.shards == again.shards and first.test_rows == again.test_rows
    file = write_nodes(tmp_path / "nodes", first)[0]
    assert load_node(file).train.found.skipped == ()  # its file has none of them


def test_found_D7_without_the_key_all_are_counted(tmp_path):
    with pytest.raises(DataError, match=r"3 of 120 rows cannot be used; .*skip_bad_rows = true"):
        skipping(rows_with_bad_ones(tmp_path), skip=False)


def test_found_D7_what_could_not_be_read_is_told_before_what_it_lacks(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "text": "b", "label": "x"}\n' * 3)
    with pytest.raises(DataError, match=r"3 of 3 rows cannot be used.*\n.*line 1: names the key 'text' twice"):
        skipping(path, skip=False)
    path.write_text('{"text": "a"}\n' * 3)
    with pytest.raises(DataError, match=r"no 'label'"):
        skipping(path, skip=False)
