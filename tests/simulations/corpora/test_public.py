import json
import sys

import pytest

from common.errors import DataError
from simulations.corpora import load_corpus
from simulations.corpora.public import PUBLIC
from tests.helpers.end_to_end.command import ROOT
from tests.helpers.simulations.requirements import FOLDER, needs_data

BANKING = 'text,category\nWhere is it?,card_arrival\n"My card,\nplease",card_arrival\n'
POLARITY = 'label\ttext\n1\ta "fine" film\n0\tdull\n'
MEDQUAD = [
    {"site": "CDC", "split": "train", "question": "What is flu ?", "answer": "A disease."},
    {"site": "CDC", "split": "test", "question": "What is pox ?", "answer": "Another."},
]
OURS = {
    "banking77": [
        {"text": "Where is it?", "label": "card_arrival"},
        {"text": "My card,\nplease", "label": "card_arrival"},
    ],
    "polarity": [{"text": 'a "fine" film', "label": "1"}, {"text": "dull", "label": "0"}],
    "medquad": [{"prompt": "Question: What is flu ?\nAnswer:", "completion": " A disease.", "site": "CDC"}],
}
HUB = {
    "banking77": [
        {"text": "Where is it?", "label": 11, "label_text": "card_arrival"},
        {"text": "My card,\nplease", "label": 11, "label_text": "card_arrival"},
    ],
    "polarity": [{"text": 'a "fine" film', "label": 1}, {"text": "dull", "label": 0}],
    "medquad": [
        {"document_source": "CDC", "question": "What is flu ?", "answer": "A disease."},
        {"document_source": "ADAM", "question": "What is pox ?", "answer": None},
        {"document_source": "CDC", "question": "What is pox ?", "answer": "long " * 200},
    ],
}
DATASETS = """
import json, pathlib
class Table(list):
    def to_list(self):
        return list(self)
def load_dataset(path, split):
    return Table(json.loads(pathlib.Path(__file__).with_name("hub.json").read_text())[f"{path} {split}"])
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a file below $FEDLORA_DATA."""
    monkeypatch.setenv("FEDLORA_DATA", str(tmp_path))

    def write(file, text):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def all_three(own):
    own("banking77/train.csv", BANKING)
    own("sentence_polarity/train.tsv", POLARITY)
    own("medquad/medquad_short.jsonl", "".join(json.dumps(row) + "\n" for row in MEDQUAD))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Install a package `datasets` that finds its rows in a file, in place of the hub."""
    monkeypatch.delenv("FEDLORA_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (tmp_path / "datasets.py").write_text(DATASETS)
    rows = {f"{PUBLIC[name].hub} train": rows for name, rows in HUB.items()}
    (tmp_path / "hub.json").write_text(json.dumps(rows))
    monkeypatch.syspath_prepend(tmp_path)
    real = sys.modules.pop("datasets", None)
    yield tmp_path
    sys.modules.pop("datasets", None)
    if real:
        sys.modules["datasets"] = real


@pytest.mark.parametrize("name", PUBLIC)
def test_a_file_becomes_the_columns_that_recipes_use(all_three, name):
    assert list(load_corpus(name).rows) == OURS[name]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_hub_gives_the_same_columns(hub, name):
    assert list(load_corpus(name).rows) == OURS[name]


def test_the_hash_is_that_of_the_rows(own):
    hashes = []
    for text in (BANKING, BANKING.replace("it?", "it"), BANKING):
        own("banking77/train.csv", text)
        hashes.append(load_corpus("banking77").sha256)
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("name", PUBLIC)
def test_where_there_is_nothing_it_says_what_to_do(monkeypatch, name):
    monkeypatch.delenv("FEDLORA_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        load_corpus(name)
    message = str(caught.value)
    assert f"set FEDLORA_DATA to a folder that has {PUBLIC[name].file} with the columns" in message
    assert "pip install datasets" in message
    assert f"HF_HUB_OFFLINE=0 to load {PUBLIC[name].hub}" in message


def test_the_hub_is_not_asked_when_offline(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="is not available"):
        load_corpus("polarity")


def test_a_hub_that_fails_is_explained(hub):
    (hub / "hub.json").write_text("{}")
    with pytest.raises(DataError, match=r"cannot load mteb/banking77 from the hub: .*set FEDLORA_DATA to"):
        load_corpus("banking77")


def test_a_missing_file_is_named(own, tmp_path):
    with pytest.raises(DataError, match=r"but .*banking77/train\.csv does not exist; .* columns text, category"):
        load_corpus("banking77")


def test_missing_columns_are_named(own):
    own("sentence_polarity/train.tsv", "class\ttext\n1\tfine\n")
    with pytest.raises(DataError, match=r"train\.tsv has the columns class, text, but not label"):
        load_corpus("polarity")


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("banking77/train.csv", BANKING + "and,one,more\n", r"train\.csv, line 5: has 3 fields where the header has 2"),
        ("banking77/train.csv", BANKING + ",card_arrival\n", r"train\.csv, line 5: 'text' is empty"),
        ("medquad/medquad_short.jsonl", '{"site": "CDC"\n', r"medquad_short\.jsonl, line 1: is not JSON"),
    ],
)
def test_a_broken_row_is_refused_by_file_and_line(own, file, text, fault):
    own(file, text)
    with pytest.raises(DataError, match=fault):
        load_corpus(file.partition("/")[0])


@pytest.mark.parametrize(
    ("name", "column", "rows", "values"),
    [
        pytest.param("banking77", "label", 10_003, 77, marks=needs_data("banking77")),
        pytest.param("medquad", "site", 6_226, 9, marks=needs_data("medquad")),
        pytest.param("polarity", "label", 8_530, 2, marks=needs_data("sentence_polarity")),
    ],
)
def test_the_real_data(monkeypatch, name, column, rows, values):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FEDLORA_DATA", FOLDER)
    corpus = load_corpus(name)
    assert len(corpus.rows) == rows
    assert len({row[column] for row in corpus.rows}) == values
    assert {tuple(sorted(row)) for row in corpus.rows} == {tuple(sorted(OURS[name][0]))}
