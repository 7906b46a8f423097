from collections import Counter

import pytest

from common.errors import DataError
from simulations.corpora import load_corpus
from tests.helpers.end_to_end.command import ROOT
from tests.helpers.simulations.requirements import FOLDER, needs_data

E2E = 'mr,ref\n"name[The Mill], food[Thai]","The Mill is Thai."\n"name[The Mill], food[Thai]",Thai food at The Mill.\n'
E2E_TEST = '"mr","ref"\n"name[Zizzi], area[riverside]","Zizzi, by the river."\n'
WEBNLG = """<?xml version="1.0" ?>
<benchmark><entries>
<entry category="Airport" eid="Id1" size="2">
  <originaltripleset><otriple>Aarhus | x | y</otriple></originaltripleset>
  <modifiedtripleset>
    <mtriple>Aarhus_Airport | cityServed | "Aarhus, Denmark"</mtriple>
    <mtriple>Aarhus_Airport | elevation | 25.0</mtriple>
  </modifiedtripleset>
  <lex comment="good" lid="Id1">Aarhus Airport is at 25 &amp; serves Aarhus.</lex>
  <lex comment="toFix" lid="Id2">Bad text.</lex>
  <lex comment="" lang="ru" lid="Id3">Текст.</lex>
  <lex comment="" lang="en" lid="Id4">Aarhus has an airport.</lex>
</entry>
<entry category="City" eid="Id2" size="1"><modifiedtripleset/></entry>
</entries></benchmark>
"""
WEBNLG_TEST = """<benchmark><entries><entry category="City" eid="Id1"><modifiedtripleset><mtriple>A | b | C</mtriple>
</modifiedtripleset><lex>A b C.</lex></entry></entries></benchmark>"""
DART = [
    {
        "tripleset": [["Ben Mauk", "High school", "Kenton"], ["Ben Mauk", "College", "Wake Forest"]],
        "subtree_was_extended": False,
        "annotations": [
            {"source": "WikiSQL_lily", "text": "Ben Mauk went to Kenton."},
            {"source": "e2e", "text": "He did."},
        ],
    }
]
DART_FILES = "dart/dart-v1.1.1-full-train.json", "dart/dart-v1.1.1-full-test.json"
TRIPLES = 'Aarhus_Airport : cityServed : "Aarhus, Denmark" | Aarhus_Airport : elevation : 25.0 ||'
MAUK = "Ben Mauk : High school : Kenton | Ben Mauk : College : Wake Forest ||"


@pytest.fixture
def all_three(own):
    own("e2e_nlg/trainset.csv", E2E)
    own("e2e_nlg/devset.csv", E2E.replace("Mill", "Vaults"))
    own("e2e_nlg/testset_w_refs.csv", E2E_TEST)
    own("webnlg/train/2triples/airport.xml", WEBNLG)
    own("webnlg/test/testdata_with_lex.xml", WEBNLG_TEST)
    own("webnlg/test/testdata_unseen_with_lex.xml", WEBNLG_TEST)
    own("webnlg/test/testdata_no_lex.xml", WEBNLG_TEST.replace("<lex>A b C.</lex>", ""))
    for file in DART_FILES:
        own(file, DART)


def _row(split, prompt, completion, **owner):
    return {"prompt": prompt, "completion": completion, "split": split, **owner}


OURS = {
    "e2e": [
        _row("train", "name[The Mill], food[Thai] ||", " The Mill is Thai.", name="The Mill"),
        _row("train", "name[The Mill], food[Thai] ||", " Thai food at The Mill.", name="The Mill"),
        _row("test", "name[Zizzi], area[riverside] ||", " Zizzi, by the river.", name="Zizzi"),
    ],
    "e2e-dev": [
        _row("train", "name[The Vaults], food[Thai] ||", " The Vaults is Thai.", name="The Vaults"),
        _row("train", "name[The Vaults], food[Thai] ||", " Thai food at The Vaults.", name="The Vaults"),
        _row("test", "name[Zizzi], area[riverside] ||", " Zizzi, by the river.", name="Zizzi"),
    ],
    "webnlg": [
        _row("train", TRIPLES, " Aarhus Airport is at 25 & serves Aarhus.", category="Airport"),
        _row("train", TRIPLES, " Aarhus has an airport.", category="Airport"),
        _row("test", "A : b : C ||", " A b C.", category="City"),
    ],
    "dart": [
        _row(split, MAUK, text, source=source)
        for split in ("train", "test")
        for source, text in (("WikiSQL_lily", " Ben Mauk went to Kenton."), ("e2e", " He did."))
    ],
}


@pytest.mark.parametrize("name", OURS)
def test_each_is_read_in_its_own_layout(all_three, name):
    assert list(load_corpus(name).rows) == OURS[name]


@pytest.mark.parametrize(
    ("name", "file", "content", "fault"),
    [
        ("e2e", "e2e_nlg/trainset.csv", "MR,ref\na,b\n", "trainset.csv has the columns 'MR', 'ref', but not 'mr'; put"),
        ("e2e", "e2e_nlg/trainset.csv", 'mr,ref\n"name[A], food[B]",\n', "trainset.csv, line 2: 'ref' is empty"),
        ("e2e", "e2e_nlg/trainset.csv", "mr,ref\nfood[B],b\n", "trainset.csv, line 2: 'mr' has no name[...]"),
        ("webnlg", "webnlg/train/2triples/airport.xml", "<entries><entry>", "airport.xml is no XML (no element found"),
        (
            "webnlg",
            "webnlg/train/2triples/airport.xml",
            WEBNLG.replace(" | elevation", " elevation"),
            "airport.xml, entry Id1: has no triples, or one without subject, relation and object",
        ),
        (
            "webnlg",
            "webnlg/train/2triples/airport.xml",
            WEBNLG.replace('category="Airport" ', ""),
            "airport.xml, entry Id1: names no category",
        ),
        (
            "webnlg",
            "webnlg/train/2triples/airport.xml",
            WEBNLG.replace("lex", "text"),
            "no <entry> of its .xml files has a <lex>, a text; put files with references there",
        ),
        ("dart", DART_FILES[0], [{"tripleset": []}], "but not 'annotations'; put the file"),
        (
            "dart",
            DART_FILES[0],
            [*DART, DART[0] | {"tripleset": [["a", "b"]]}],
            "train.json, row 2: has no triples, or one without subject, relation and object",
        ),
        *(
            (
                "dart",
                DART_FILES[0],
                [DART[0] | {"tripleset": [["a", "b", wrong]]}],
                "row 1: has no triples, or one without",
            )
            for wrong in (None, ["c", "d"], True, {"c": 1}, "")
        ),
        (
            "dart",
            DART_FILES[0],
            [*DART, DART[0] | {"tripleset": [["a", "b"]]}],
            "each a text or number",
        ),
        ("dart", DART_FILES[0], [DART[0] | {"tripleset": "a"}], "row 1: 'tripleset' is no list of triples"),
        ("dart", DART_FILES[0], [DART[0] | {"annotations": ["a"]}], "row 1: 'annotations' is no list of objects"),
        ("dart", DART_FILES[0], [DART[0] | {"annotations": [{"source": "x"}]}], "row 1: 'text' is empty"),
    ],
)
def test_what_is_broken_is_named_by_file_and_place(all_three, own, name, file, content, fault):
    own(file, content)
    with pytest.raises(DataError) as caught:
        load_corpus(name)
    assert fault in str(caught.value)


def test_a_folder_without_xml_is_refused(all_three, tmp_path):
    for file in (tmp_path / "webnlg" / "test").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"test has no \.xml files; put WebNLG's there"):
        load_corpus("webnlg")


@needs_data("e2e_nlg")
def test_the_real_development_and_test_sets(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FEDLORA_DATA", FOLDER)
    rows = load_corpus("e2e-dev").rows
    assert Counter(row["split"] for row in rows) == {"train": 4672, "test": 4693}
    prompts = {split: {row["prompt"] for row in rows if row["split"] == split} for split in ("train", "test")}
    assert {split: len(each) for split, each in prompts.items()} == {"train": 547, "test": 630}
    assert not prompts["train"] & prompts["test"]
    assert len({row["name"] for row in rows if row["split"] == "train"}) == 20
