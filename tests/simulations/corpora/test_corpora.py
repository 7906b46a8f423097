from collections import Counter

from simulations.corpora import load_corpus, toy
from simulations.corpora.corpus import from_jsonl, to_jsonl


def test_four_equal_classes_and_always_the_same_rows():
    corpus = load_corpus("toy")
    assert sorted(Counter(row["label"] for row in corpus.rows).values()) == [100] * 4
    assert corpus == load_corpus("toy")


def _told_by_words(row):
    words = row["text"].split()
    hits = {label: sum(word in own for word in words) for label, own in toy._WORDS.items()}
    return [label for label in hits if hits[label] == max(hits.values())] == [row["label"]]


def test_words_tell_the_class_nearly_always():
    rows = load_corpus("toy").rows
    assert 0.95 < sum(map(_told_by_words, rows)) / len(rows) < 1


def test_the_completion_is_the_label():
    assert all(row["completion"] == f" {row['label']}" for row in load_corpus("toy").rows)


def test_each_place_is_preferred_to_another():
    corpus = load_corpus("toy-preference")
    assert corpus == load_corpus("toy-preference")
    assert [(row["prompt"], row["chosen"]) for row in corpus.rows] == [
        (row["prompt"], row["completion"]) for row in load_corpus("toy").rows
    ]
    assert {row["rejected"] for row in corpus.rows} == {row["chosen"] for row in corpus.rows}
    assert all(row["rejected"] != row["chosen"] for row in corpus.rows)


def test_a_corpus_survives_being_written_and_its_hash_sees_every_change():
    rows = [{"b": "line\nbreak", "a": "漢字\u2028"}, {"a": "x", "b": ""}]
    corpus = from_jsonl(to_jsonl(rows))
    assert corpus.rows == tuple(rows)
    assert corpus.sha256 == from_jsonl(to_jsonl([dict(sorted(row.items())) for row in rows])).sha256
    assert corpus.sha256 != from_jsonl(to_jsonl(rows[::-1])).sha256
