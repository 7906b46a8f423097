from collections import Counter

import pytest

from simulations.corpora import library_docs, load_corpus
from simulations.corpora.library_docs_lm import ROWS_PER_LIBRARY


@pytest.fixture(scope="module")
def rows():
    return load_corpus("library-docs-lm").rows


def test_every_library_has_equally_many_rows(rows):
    counts = Counter(row["library"] for row in rows)
    assert counts == {library.label: ROWS_PER_LIBRARY for library in library_docs.LIBRARIES}


def test_a_prompt_names_the_object_and_holds_its_signature(rows):
    row = next(row for row in load_corpus("library-docs").rows if len(row["signature"]) < 50)
    (asked,) = [each for each in rows if each["completion"] == f" {row['sentence']}"]
    assert asked["prompt"] == f"What does {row['name']} do?\n{row['signature']}\nAnswer:"


def test_long_signatures_leave_room_for_an_answer(rows):
    signatures = [row["prompt"].split("\n")[1] for row in rows]
    assert max(map(len, signatures)) <= 120
    assert any(signature.endswith(" ...") for signature in signatures)  # control: some were longer


def test_answers_are_whole_sentences_without_the_mask(rows):
    answers = [row["completion"] for row in rows]
    assert not any(library_docs.MASK in answer for answer in answers)
    assert any(library_docs.mask(answer) != answer for answer in answers)  # control: there was something to mask
    assert all(answer[0] == " " and answer[1] != " " for answer in answers)
