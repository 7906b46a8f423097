"""What the columns of a file suggest."""

import json

import pytest

from client.columns.suggestion import owner_column, suggest
from client.columns.survey import survey
from client.data.files.source import open_rows
from common.settings.tasks import MULTI, REGRESSION, SINGLE

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
        twenty(source=text, output=text),
        ("causal-lm", {"prompt": "source", "completion": "output"}, ()),
    ),
    "a question with a few answers has labels": (
        twenty(question=text, answer=lambda n: "no" if n % 2 else "yes"),
        ("classification", {"text": "question", "label": "answer"}, ("no", "yes")),
    ),
    "pairs of chats": (
        twenty(
            chosen=lambda n: [{"role": "user", "content": text(n)}],
            rejected=lambda n: [{"role": "user", "content": text(n)}],
            messages=lambda n: [{"role": "user", "content": text(n)}],
        ),
        ("preference", {"chosen": "chosen", "rejected": "rejected"}, ()),
    ),
    "chats as texts": (
        twenty(talk=lambda n: json.dumps([{"role": "user", "content": text(n)}])),
        ("causal-lm", {"messages": "talk"}, ()),
    ),
    "messages that are texts": (
        twenty(messages=text, label=lambda n: n % 2),
        ("classification", {"text": "messages", "label": "label"}, ("0", "1")),
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
def test_a_layout_is_suggested(tmp_path, name):
    rows, expected = CASES[name]
    suggestion = suggest(read(tmp_path, rows))
    assert (suggestion.task, dict(suggestion.columns), suggestion.labels) == expected


def test_found_D2_names_of_rows_are_no_labels_unless_asked_for(tmp_path):
    rows = [{"text": text(n), "label": f"id {n}"} for n in range(40)]
    found = read(tmp_path, rows)
    assert suggest(found).task == "causal-lm"
    assert len(suggest(found, "label").labels) == 40
    assert suggest(read(tmp_path, rows[:20])).task == "classification"  # control: few of each in a small file


@pytest.mark.parametrize(
    ("columns", "settings", "more"),
    [
        ({"instruction": text, "input": text, "output": text}, {}, ("input",)),
        ({"Instruction": text, "Input": text, "Output": text}, {}, ("Input",)),
        ({"instruction": text, "input": text, "output": text, "text": text}, {"text": ""}, ("input",)),
        ({"instruction": text, "context": text, "response": text}, {}, ("context",)),
        (
            {"conversations": lambda n: [{"from": "human", "value": text(n)}], "system": text, "tools": text},
            {},
            ("system", "tools"),
        ),
    ],
    ids=["alpaca", "capital letters", "with its text", "dolly", "share gpt"],
)
def test_found_D5_a_layout_that_a_run_knows_is_left_to_it(tmp_path, columns, settings, more):
    suggestion = suggest(read(tmp_path, twenty(**columns)))
    assert suggestion.settings == {"task": "causal-lm", **settings}
    assert suggestion.more == more
    assert set(suggestion.read) == {*columns} - {*settings}


def test_rows_without_text_suggest_nothing(tmp_path):
    assert suggest(read(tmp_path, twenty(id=lambda n: n))) is None


def test_only_keys_that_differ_from_the_defaults_are_to_be_set(tmp_path):
    rows = twenty(text=text, label=lambda n: n % 2)
    assert suggest(read(tmp_path, rows)).settings == {}


def test_the_owner_of_a_row_is_found(tmp_path):
    found = read(tmp_path, twenty(text=text, Site=lambda n: "ab"[n % 2]))
    assert owner_column(found) == "Site"
    assert owner_column(read(tmp_path, twenty(text=text, site=lambda n: "a"))) is None


def test_places_without_a_row_are_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n')
    found = survey(open_rows(path).chunks())
    assert (found.rows, [each.line for each in found.bad]) == (1, [2])


@pytest.mark.parametrize(
    ("columns", "problem", "labels"),
    [
        ({"label": lambda n: ["a", "b", "c"][: n % 4]}, MULTI, ("a", "b", "c")),
        ({"label": lambda n: [n % 2, 0, 1]}, MULTI, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"label": lambda n: ["[]", "a", "a|b", "b"][n % 4]}, MULTI, ("a", "b")),
        ({"label": lambda n: '["a", "b"]' if n % 2 else '["a"]'}, MULTI, ("a", "b")),
        ({"label": lambda n: n / 4}, REGRESSION, ("LABEL_0",)),
        ({"label": lambda n: f"{n / 4}"}, REGRESSION, ("LABEL_0",)),
        ({"label": lambda n: [n / 4, 1.0]}, REGRESSION, ("LABEL_0", "LABEL_1")),
        ({"stars": lambda n: n / 4}, REGRESSION, ("LABEL_0",)),
        ({"label": lambda n: n % 3}, SINGLE, ("0", "1", "2")),
        ({"label": lambda n: float(n % 3)}, SINGLE, ("0", "1", "2")),
        ({"label": lambda n: ["x; y", "z"][n % 2]}, SINGLE, ("x; y", "z")),  # a label may have a semicolon
    ],
)
def test_found_D12_lists_and_numbers_that_are_not_whole_are_recognised(tmp_path, columns, problem, labels):
    layout = suggest(read(tmp_path, twenty(text=text, **columns)))
    assert (layout.task, layout.problem_type, layout.labels) == ("classification", problem, labels)
    assert layout.settings.get("problem_type", SINGLE) == problem


def test_found_D12_numbers_told_of_a_text_are_nothing_to_learn(tmp_path):
    rows = twenty(text=text, score=lambda n: n / 4, price=lambda n: n % 3 / 2)
    assert suggest(read(tmp_path, rows)).task == "causal-lm"
    assert suggest(read(tmp_path, rows), "score").problem_type == REGRESSION  # where the user says so
