import json
import logging

import pytest

from common.errors import DataError
from simulations.corpora import load_corpus

TABLE = {"id": "1-1000181-1", "header": ["State/territory", "Notes", "Runs"], "types": ["text"] * 3, "rows": []}
QUESTION = "Tell me what the notes are for South Australia "
SQL = {"sel": 1, "agg": 0, "conds": [[0, 0, "SOUTH AUSTRALIA"], [2, 1, 3.0]]}
PROMPT = "Columns: State/territory | Notes | Runs\nQuestion: Tell me what the notes are for South Australia\nSQL:"
SAMSUM = {"id": "13818513", "summary": "Amanda baked cookies.", "dialogue": "Amanda: I baked.\r\nJerry: Sure!"}


def _question(**changes):
    return json.dumps({"phase": 1, "table_id": TABLE["id"], "question": QUESTION, "sql": SQL} | changes) + "\n"


@pytest.fixture
def both(own):
    for split in ("train", "test"):
        own(f"wikisql/{split}.jsonl", _question())
        own(f"wikisql/{split}.tables.jsonl", json.dumps(TABLE) + "\n")
        own(f"samsum/{split}.json", [SAMSUM])


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (SQL, "SELECT Notes FROM table WHERE State/territory = SOUTH AUSTRALIA AND Runs > 3.0"),
        ({"sel": 2, "agg": 3, "conds": []}, "SELECT COUNT Runs FROM table"),
        ({"sel": 2, "agg": 5, "conds": [[1, 2, 4]]}, "SELECT AVG Runs FROM table WHERE Notes < 4"),
    ],
)
def test_a_question_of_wikisql_is_asked_with_its_columns(both, own, sql, text):
    own("wikisql/train.jsonl", _question(sql=sql))
    row, _ = load_corpus("wikisql").rows
    assert row == {"prompt": PROMPT, "completion": f" {text}", "table": TABLE["id"], "split": "train"}


def test_a_dialogue_of_samsum_is_followed_by_its_summary(both):
    prompt = "Amanda: I baked.\nJerry: Sure!\n\nSummary:"
    assert [*load_corpus("samsum").rows] == [
        {"prompt": prompt, "completion": " Amanda baked cookies.", "split": split} for split in ("train", "test")
    ]


def test_a_row_without_a_dialogue_is_left_out_and_counted(both, own, caplog):
    path = own("samsum/train.json", [SAMSUM, SAMSUM | {"dialogue": ""}])
    with caplog.at_level(logging.WARNING):
        assert len(load_corpus("samsum").rows) == 2
    assert caplog.messages == [f"{path}: 1 rows have no dialogue and are left out"]


@pytest.mark.parametrize(
    ("name", "file", "content", "fault"),
    [
        (
            "wikisql",
            "train.jsonl",
            _question() + _question(table_id="9"),
            "line 2: 'table_id' is '9', which train.tables",
        ),
        (
            "wikisql",
            "train.jsonl",
            _question(sql={"sel": 3, "agg": 0, "conds": []}),
            "line 1: 'sql' is no query of its",
        ),
        ("wikisql", "train.jsonl", _question(sql={"sel": 0}), "line 1: 'sql' is no query of its table"),
        ("wikisql", "train.jsonl", _question(sql=SQL | {"conds": [[0, 0]]}), "line 1: 'sql' is no query of its table"),
        ("wikisql", "train.jsonl", _question(sql=None), "line 1: 'sql' is no query of its table"),
        *(
            ("wikisql", "train.jsonl", _question(sql=SQL | changes), "line 1: 'sql' is no query of its table")
            for changes in (
                *({"sel": -1}, {"sel": True}, {"sel": 0.0}, {"agg": -1}, {"agg": True}, {"agg": 6}),
                *({"conds": [[-1, 0, "a"]]}, {"conds": [[0, -1, "a"]]}, {"conds": [[0, 0, None]]}),
                *({"conds": [[0, 0, ["a"]]]}, {"conds": [[0, 0, True]]}),
            )
        ),
        ("wikisql", "train.jsonl", _question(question=""), "line 1: 'question' is empty"),
        (
            "wikisql",
            "train.tables.jsonl",
            TABLE | {"header": None},
            "line 1: 'header' is no list of names",
        ),
        (
            "wikisql",
            "train.tables.jsonl",
            TABLE | {"header": [3]},
            "line 1: 'header' is no list of names",
        ),
        ("wikisql", "train.tables.jsonl", TABLE | {"id": ["x"]}, "line 1: 'id' is not text but list"),
        ("wikisql", "train.tables.jsonl", {"id": "1"}, "train.tables.jsonl has the columns 'id', but not 'header'"),
        ("samsum", "train.json", [SAMSUM, SAMSUM | {"summary": ""}], "train.json, row 2: 'summary' is empty"),
        ("samsum", "train.json", [{"dialogue": "A: b."}], "train.json has the columns 'dialogue', but not 'summary'"),
    ],
)
def test_what_is_broken_is_named_by_file_and_place(both, own, name, file, content, fault):
    own(f"{name}/{file}", content)
    with pytest.raises(DataError) as caught:
        load_corpus(name)
    assert fault in str(caught.value)


def test_the_tables_of_wikisql_must_be_there(both, tmp_path):
    (tmp_path / "wikisql" / "test.tables.jsonl").unlink()
    with pytest.raises(DataError, match=r"cannot read .*test\.tables\.jsonl"):
        load_corpus("wikisql")
