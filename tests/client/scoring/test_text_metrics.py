import csv
import math

import nltk
import pytest
from nltk.corpus import wordnet
from nltk.translate.nist_score import corpus_nist

from client.scoring.nist import nist
from client.scoring.text_metrics import bleu, meteor, rouge, without_wordnet
from client.scoring.written import Written, words
from tests.helpers.end_to_end.command import ROOT
from tests.helpers.simulations.requirements import FOLDER, needs_data

TEXTS = [
    Written(
        "The Vaults is a cheap pub near Café Adriatic.",
        (
            "The Vaults pub near Café Adriatic has cheap food.",
            "Near Café Adriatic there is a cheap pub, The Vaults.",
            "The Vaults is a cheap pub close to Café Adriatic.",
        ),
    ),
    Written("Loch Fyne serves 3,000 kinds of fish - and more", ("Loch Fyne serves fish, 3,000 kinds.",)),
    Written("a a a a", ("A place to eat.", "It is a restaurant.")),
]
SCRIPT = {bleu: 46.80006554148217, nist: 3.75014959740571}
"""Of TEXTS, by metrics/pymteval.py of the E2E challenge (github.com/tuetschek/e2e-metrics)."""
PERFECT = Written("a pub in the city centre", ("a pub in the city centre",))


@pytest.mark.parametrize("metric", SCRIPT)
def test_several_references_count_as_in_the_challenges_script(metric):
    assert metric(TEXTS) == pytest.approx(SCRIPT[metric], rel=1e-9)
    first = [Written(each.text, each.references[:1]) for each in TEXTS]
    assert abs(metric(first) - SCRIPT[metric]) > 0.1  # control: the other references matter


@needs_data("e2e_nlg")
def test_of_whole_references_the_challenges_script_measures_the_same():
    """Of each description of the development set, the first text against all others."""
    by_prompt: dict[str, list[str]] = {}
    with (ROOT / FOLDER / "e2e_nlg" / "devset.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_prompt.setdefault(row["mr"], []).append(row["ref"])
    texts = [Written(first, tuple(others)) for first, *others in by_prompt.values()]
    assert len(texts) == 547
    assert bleu(texts) == pytest.approx(59.95345944253415, rel=1e-9)  # pymteval's
    assert nist(texts) == pytest.approx(8.578516297666646, rel=1e-9)


def test_with_one_reference_nist_is_nltks():
    own = [Written(each.text, each.references[:1]) for each in TEXTS]
    theirs = corpus_nist([[words(each.references[0])] for each in own], [words(each.text) for each in own])
    assert nist(own) == pytest.approx(theirs)
    several = corpus_nist([[*map(words, each.references)] for each in TEXTS], [words(each.text) for each in TEXTS])
    assert abs(nist(TEXTS) - several) > 0.01  # control: with several, NLTK takes the best of them


def test_nist_by_hand():
    """Three words of three: log2(3) each; each longer n-gram is certain, so it carries no information."""
    assert nist([Written("x y z", ("x y z",))]) == pytest.approx(math.log2(3))
    assert nist([Written("x y", ("x y z",))]) == pytest.approx(math.log2(3) / 2)  # two thirds of the words: half


def test_rouge_by_hand():
    """Found are 3 of 4 words and 1 of 3 pairs; longest in order: a b d."""
    scores = rouge([Written("a b x d", ("a b c d",))])
    assert scores == pytest.approx({"rouge1": 75, "rouge2": 100 / 3, "rougeL": 75})
    better = rouge([Written("a b x d", ("a b c d", "a b x d"))])
    assert better == pytest.approx(dict.fromkeys(scores, 100))
    both = rouge([Written("a b x d", ("a b c d",)), Written("q", ("z",))])
    assert both == pytest.approx({name: score / 2 for name, score in scores.items()})


@pytest.mark.parametrize("metric", [bleu, nist, lambda texts: rouge(texts)["rougeL"]])
def test_a_copy_of_a_reference_is_best_and_no_text_is_zero(metric):
    spoilt = Written("a pub in the river", PERFECT.references)
    nothing = Written("", PERFECT.references)
    assert metric([PERFECT]) > metric([spoilt]) > metric([nothing]) == 0
    assert metric([Written("A Pub in the City Centre", PERFECT.references)]) == pytest.approx(metric([PERFECT]))


@pytest.mark.parametrize("metric", [bleu, nist, lambda texts: rouge(texts)["rouge2"]])
def test_the_order_of_texts_and_references_does_not_matter(metric):
    turned = [Written(each.text, each.references[::-1]) for each in TEXTS[::-1]]
    assert metric(turned) == pytest.approx(metric(TEXTS))


@pytest.fixture
def no_words(tmp_path, monkeypatch):
    """Return the only folder that NLTK looks in; a new reader of WordNet is made from it."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    reader = type(wordnet)("wordnet", nltk.corpus.WordNetCorpusReader, None)
    monkeypatch.setattr("nltk.translate.meteor_score.wordnet", reader)
    monkeypatch.setattr(nltk.translate.meteor_score.meteor_score, "__defaults__", _with(reader))
    return tmp_path


def _with(reader):
    defaults = nltk.translate.meteor_score.meteor_score.__defaults__
    return tuple(reader if each is wordnet else each for each in defaults)


@pytest.mark.parametrize("files", [None, (), ("lexnames",)])
def test_without_the_whole_of_wordnet_meteor_says_what_is_missing(no_words, files):
    if files is not None:
        folder = no_words / "corpora" / "wordnet"
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).touch()
    assert "python -m nltk.downloader wordnet" in without_wordnet()


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("a cat sat on this mat", 100 * (1 - 0.5 / 6**3)),  # one piece of six words
        ("on this mat sat a cat", 100 * (1 - 0.5 * (3 / 6) ** 3)),  # on this mat, sat, a cat
        ("one dog", 0.0),
    ],
)
def test_meteor_by_hand_with_a_wordnet_that_has_no_words(no_words, text, score):
    folder = no_words / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for name in nltk.corpus.WordNetCorpusReader._FILES:
        (folder / name).touch()
    assert without_wordnet() is None
    assert meteor([Written(text, ("so it did", "a cat sat on this mat"))]) == pytest.approx(score)
