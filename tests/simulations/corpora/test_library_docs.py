import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import ConfigError, DataError
from simulations.corpora import docstrings, library_docs, load_corpus
from simulations.corpora.library_docs import LIBRARIES, ROWS_PER_LIBRARY, mask

ROOT = Path(__file__).parents[3]
LOAD = """
import json, sys
from simulations.corpora import load_corpus
corpus = load_corpus("library-docs")
imported = [name for name in ("torch", "sympy", "networkx", "matplotlib", "transformers") if name in sys.modules]
print(json.dumps({"sha256": corpus.sha256, "imported": imported}))
"""


def _load_elsewhere(cache, hash_seed):
    environment = os.environ | {"FEDLORA_CACHE": str(cache), "PYTHONHASHSEED": hash_seed}
    answer = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(cache):
    return _load_elsewhere(cache, "1")


@pytest.fixture(scope="module")
def corpus(cache, built):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDLORA_CACHE", str(cache))
        return load_corpus("library-docs")


def test_two_processes_build_the_same_bytes(built, tmp_path):
    assert _load_elsewhere(tmp_path, "2")["sha256"] == built["sha256"]


def test_the_cached_corpus_has_the_hash_of_the_built_one(built, corpus):
    assert corpus.sha256 == built["sha256"]


def test_no_library_is_imported(built):
    assert built["imported"] == []


def test_every_library_has_enough_rows(corpus):
    counts = Counter(row["label"] for row in corpus.rows)
    assert set(counts) == {library.label for library in LIBRARIES}
    assert all(350 <= count <= ROWS_PER_LIBRARY for count in counts.values()), counts


def test_rows_are_distinct_sentences_of_5_to_40_words(corpus):
    texts = [row["text"] for row in corpus.rows]
    assert len(set(texts)) == len(texts)
    assert all(5 <= len(text.split()) <= 40 for text in texts)
    assert {tuple(sorted(row)) for row in corpus.rows} == {("label", "name", "sentence", "signature", "text")}


def _names_itself(text, library):
    whole = [rf"(?<![a-z]){word}(?![a-z])" for word in library.words]
    return any(name in text.lower() for name in library.names) or any(re.search(w, text.lower()) for w in whole)


def test_no_row_names_its_own_library(corpus):
    by_label = {library.label: library for library in LIBRARIES}
    assert [row for row in corpus.rows if _names_itself(row["text"], by_label[row["label"]])] == []


def test_without_the_mask_sentences_do_name_their_library(monkeypatch):
    monkeypatch.setattr(library_docs, "mask", lambda sentence: sentence)
    library = next(library for library in LIBRARIES if library.label == "numpy")
    named = [text for text in library_docs._candidates(library) if _names_itself(text, library)]
    assert len(named) >= 20
    assert not any(_names_itself(mask(text), library) for text in named)


@pytest.mark.parametrize(
    ("sentence", "masked"),
    [
        ("Wrap a PyTorch module for TorchScript.", "Wrap a [LIB] module for [LIB]."),
        ("True if is_torch_available.", "True if is_[LIB]_available."),
        ("Like `np.dot`, but NUMPY's.", "Like `[LIB].dot`, but [LIB]'s."),
        ("An enriched input, npm.", "An enriched input, npm."),
        ("Print Rich text.", "Print [LIB] text."),
    ],
)
def test_mask(sentence, masked):
    assert mask(sentence) == masked


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return x, e.g. one. And more.", "Return x, e.g. one."),
        ("Broken\n    over lines\n\n    Details.", "Broken over lines"),
        ("  ", ""),
    ],
)
def test_first_sentence(docstring, sentence):
    assert docstrings.first_sentence(docstring) == sentence


def test_documented_objects_of_a_file(tmp_path):
    path = tmp_path / "shapes.py"
    path.write_text(
        "class Circle(Shape):\n"
        '    "A round shape."\n'
        "    if True:\n"
        '        async def area(self, unit: str = "m", *, n=1) -> float:\n'
        '            "Its area."\n'
        "def undocumented(): ...\n"
    )
    found = [(item.name, item.signature, item.sentence) for item in docstrings.read_documented(path, "lib.shapes")]
    assert found == [
        ("lib.shapes.Circle", "class Circle(Shape)", "A round shape."),
        ("lib.shapes.Circle.area", "async def area(self, unit: str='m', *, n=1) -> float", "Its area."),
    ]


def test_a_file_that_is_not_python_has_nothing(tmp_path):
    (tmp_path / "broken.py").write_text("def (:")
    assert list(docstrings.read_documented(tmp_path / "broken.py", "broken")) == []


def test_tests_and_bundled_packages_are_left_out(tmp_path):
    for name in ("own/a.py", "tests/b.py", "own/_vendor/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert docstrings.sources(tmp_path) == [tmp_path / "own" / "a.py"]


def test_a_missing_library_is_named_with_the_command():
    with pytest.raises(DataError, match=r"no-such-library.*pip install no-such-library"):
        library_docs.version(replace(LIBRARIES[0], label="no-such-library"))


def test_a_library_without_sources_is_refused():
    with pytest.raises(DataError, match="no docstrings"):
        library_docs._candidates(replace(LIBRARIES[0], package="no_such_folder"))


def test_an_unknown_corpus_is_refused():
    with pytest.raises(ConfigError, match="library-docs"):
        load_corpus("library-doc")
