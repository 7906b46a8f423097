"""What the columns of a file suggest."""

import json

import pytest

from client.columns.layout import owner_column, recognise
from client.columns.survey import survey
from client.data.files.source import open_rows

LONG = "a rather long text about something, number {}"


def read(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return survey(open_rows(path).chunks())


def twenty(**columns):
    return [{name: make(n) for name, make in columns.items()} for n in range(20)]


def text(n):
    return LONG.format(n)


CASES = {
    "chat": (
        twenty(messages=lambda n: [{"role": "user", "content": text(n)}]),
        ("causal-lm", {"messages": "messages"}, ()),
    ),
    "share gpt": (
        twenty(conversations=lambda n: [{"from": "human", "value": text(n)}]),
        ("causal-lm", {"messages": "conversations"}, ()),
    ),
    "pairs": (
        twenty(question=text, chosen=text, rejected=text),
        ("preference", {"prompt": "question", "chosen": "chosen", "rejected": "rejected"}, ()),
    ),
    "answers": (
        twenty(instruction=text, output=text),
        ("causal-lm", {"prompt": "instruction", "completion": "output"}, ()),
    ),
    "labels by name": (
        twenty(id=lambda n: n, sentence=text, label=lambda n: n % 3),
        ("classification", {"text": "sentence", "label": "label"}, ("0", "1", "2")),
    ),
    "labels by values": (
        twenty(id=lambda n: n, remark=text, urgency=lambda n: ("low", "high")[n % 2]),
        ("classification", {"text": "remark", "label": "urgency"}, ("high", "low")),
    ),
    "an owner is no label": (
        twenty(remark=text, hospital=lambda n: "ab"[n % 2]),
        ("causal-lm", {"text": "remark"}, ()),
    ),
    "texts": (twenty(story=text), ("causal-lm", {"text": "story"}, ())),
}


@pytest.mark.parametrize("name", CASES)
def test_a_layout_is_recognised(tmp_path, name):
    rows, expected = CASES[name]
    layout = recognise(read(tmp_path, rows))
    assert (layout.task, dict(layout.columns), layout.labels) == expected


def test_rows_without_text_suggest_nothing(tmp_path):
    assert recognise(read(tmp_path, twenty(id=lambda n: n))) is None


def test_only_keys_that_differ_from_the_defaults_are_to_be_set(tmp_path):
    rows = twenty(text=text, label=lambda n: n % 2)
    assert recognise(read(tmp_path, rows)).settings == {}


def test_the_owner_of_a_row_is_found(tmp_path):
    found = read(tmp_path, twenty(text=text, Site=lambda n: "ab"[n % 2]))
    assert owner_column(found) == "Site"
    assert owner_column(read(tmp_path, twenty(text=text, site=lambda n: "a"))) is None


def test_places_without_a_row_are_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n')
    found = survey(open_rows(path).chunks())
    assert (found.rows, [each.line for each in found.bad]) == (1, [2])
