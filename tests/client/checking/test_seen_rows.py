"""Rows as the model sees them."""

from pathlib import Path

import numpy as np
import pytest

from client.checking.row_text import row_lines
from client.checking.seen_rows import Span, see
from client.data.rows import Row
from client.data.tokens import IGNORE, Example
from client.objectives.examples import encode_rows
from tests.helpers.client.toy_tokenizer import node_data, word_tokenizer

LABELLED = {"task": "classification", "labels": ("no", "yes")}
PREFERRED = {"task": "preference"}


def seen(fields, tokenizer=None, **settings):
    tokenizer = tokenizer or word_tokenizer(eos_token="<eos>")
    data = node_data(**settings)
    (row,) = encode_rows([Row(1, fields)], data, tokenizer, Path("rows")).rows
    return see(1, row, data.labels, tokenizer)


def test_what_is_learned_is_told_apart_from_what_is_given():
    (part,) = seen({"prompt": "w1 w2", "completion": "w3"}).parts
    assert (part.tokens, part.learned) == (4, 2)
    assert [(span.text.strip(), span.learned, span.special) for span in part.spans] == [
        ("w1 w2", False, False),
        ("w3", True, False),
        ("<eos>", True, True),
    ]


def test_the_text_of_all_spans_is_that_of_the_row():
    (part,) = seen({"prompt": "w1 w2", "completion": "w3 w4"}).parts
    assert "".join(span.text for span in part.spans).split() == ["w1", "w2", "w3", "w4", "<eos>"]


def test_a_label_is_told_by_its_name():
    row = seen({"text": "w1 w2", "label": "yes"}, **LABELLED)
    assert row.target == "yes"
    assert not any(span.learned for part in row.parts for span in part.spans)


@pytest.mark.parametrize(
    ("target", "labels", "text"),
    [
        (np.array([1.0, 0.0, 1.0], np.float32), ("a", "b", "c"), "a, c"),
        (np.array([0.0, 0.0, 0.0], np.float32), ("a", "b", "c"), "none"),
        (np.float32(0.5), (), "0.5"),
        (np.array([0.5, -2.25], np.float32), (), "0.5, -2.25"),
        (np.array([7, 8, 3, IGNORE], np.int32), (), "w0 w1 <eos>"),
    ],
    ids=["labels", "no label", "number", "numbers", "text"],
)
def test_other_targets_are_told(target, labels, text):
    row = Example(np.array([7, 8], np.int32), target, False)
    assert see(1, row, labels, word_tokenizer(eos_token="<eos>")).target == text


def test_both_answers_of_a_pair_are_shown():
    row = seen({"prompt": "w1", "chosen": "w2", "rejected": "w3"}, **PREFERRED)
    assert [part.name for part in row.parts] == ["chosen", "rejected"]
    assert row.target is None


def test_a_long_row_shows_both_ends_and_says_how_much_it_leaves_out():
    (part,) = seen({"prompt": "w1 " * 400, "completion": "w2"}, max_length=1000).parts
    assert " [... 202 more tokens ...] " in [span.text for span in part.spans]
    assert part.spans[-1] == Span(part.spans[-1].text, learned=True, special=True)


@pytest.mark.parametrize("colour", [True, False])
def test_loss_is_marked_by_colour_or_by_marks(colour):
    heading, line = row_lines(seen({"prompt": "w1 w2", "completion": "w3"}), colour)
    assert heading.plain == "row 1: 4 tokens, 2 carry loss"
    styled = {line.plain[span.start : span.end].strip() for span in line.spans if "green" in str(span.style)}
    assert styled == ({"w3", "<eos>"} if colour else set())
    assert ("⟦" in line.plain) != colour
