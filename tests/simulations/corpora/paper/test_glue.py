import logging

import pytest

from common.errors import ConfigError, DataError
from common.settings.tasks import REGRESSION, SINGLE
from simulations.corpora import load_corpus
from simulations.prepare import prepare
from simulations.recipe import read_recipe
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import require_classes
from tests.helpers.end_to_end.command import TINY

PAIR = "index\tsentence1\tsentence2\tlabel\n"
MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\t"
    "sentence1\tsentence2\t{}gold_label\n"
)
MNLI_ROW = "0\t31193n\t31193n\tgovernment\t( a )\t( b )\t(ROOT a)\t(ROOT b)\t{}\t{}\t{}{}\n"
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
MRPC = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
FILES = {
    "glue-cola": (
        ("CoLA/train.tsv", "gj04\t1\t\tOur friends won't buy this.\ngj04\t0\t*\tThey drank the \"pub.\n"),
        ("CoLA/dev.tsv", "clc95\t1\t\tThe sailors rode the breeze.\n"),
    ),
    "glue-sst2": (
        ("SST-2/train.tsv", 'sentence\tlabel\nhide "new secretions \t0\n'),
        ("SST-2/dev.tsv", "sentence\tlabel\nit 's charming \t1\n"),
    ),
    "glue-mrpc": (
        ("MRPC/msr_paraphrase_train.txt", MRPC + '1\t702876\t702977\tAmrozi "erred.\tHe did.\r\n'),
        ("MRPC/msr_paraphrase_test.txt", MRPC + "0\t1\t2\tOne.\tTwo.\n"),
    ),
    "glue-qqp": (("QQP/train.tsv", QQP + "1\t2\t3\tWhy?\tHow?\t0\n"), ("QQP/dev.tsv", QQP + "4\t5\t6\tA?\tB?\t1\n")),
    "glue-stsb": (
        ("STS-B/train.tsv", STSB + "0\tmain\tMSRvid\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t5.000\n"),
        ("STS-B/dev.tsv", STSB + "0\tmain\tMSRvid\t2012\t1\tnone\tnone\tA man.\tA dog.\t0.4\n"),
    ),
    "glue-mnli": (
        ("MNLI/train.tsv", MNLI.format("label1\t") + MNLI_ROW.format("It rains.", "It is wet.", "n\t", "entailment")),
        ("MNLI/dev_matched.tsv", MNLI.format("label1\tlabel2\t") + MNLI_ROW.format("A.", "B.", "n\tn\t", "neutral")),
    ),
    "glue-mnli-mismatched": (
        ("MNLI/train.tsv", MNLI.format("label1\t") + MNLI_ROW.format("It rains.", "It is wet.", "n\t", "entailment")),
        ("MNLI/dev_mismatched.tsv", MNLI.format("") + MNLI_ROW.format("C.", "D.", "", "contradiction")),
    ),
    "glue-qnli": (
        ("QNLI/train.tsv", "index\tquestion\tsentence\tlabel\n0\tWhen?\tIn 1990.\tentailment\n"),
        ("QNLI/dev.tsv", "index\tquestion\tsentence\tlabel\n0\tWho?\tIn 1990.\tnot_entailment\n"),
    ),
    "glue-rte": (
        ("RTE/train.tsv", PAIR + "0\tNo weapons.\tWeapons.\tnot_entailment\n"),
        ("RTE/dev.tsv", PAIR + "0\tDana died.\tShe died.\tentailment\n"),
    ),
    "glue-wnli": (
        ("WNLI/train.tsv", PAIR + "0\tI stuck a pin.\tIt hurt.\t1\n"),
        ("WNLI/dev.tsv", PAIR + "0\tA.\tB.\t0\n"),
    ),
}
OURS = {
    "glue-cola": [
        ("Our friends won't buy this.", "1"),
        ('They drank the "pub.', "0"),
        ("The sailors rode the breeze.", "1"),
    ],
    "glue-sst2": [('hide "new secretions', "0"), ("it 's charming", "1")],
    "glue-mrpc": [('sentence1: Amrozi "erred. sentence2: He did.', "1"), ("sentence1: One. sentence2: Two.", "0")],
    "glue-qqp": [("question1: Why? question2: How?", "0"), ("question1: A? question2: B?", "1")],
    "glue-stsb": [
        ("sentence1: A plane. sentence2: An air plane.", "5.000"),
        ("sentence1: A man. sentence2: A dog.", "0.4"),
    ],
    "glue-mnli": [
        ("premise: It rains. hypothesis: It is wet.", "entailment"),
        ("premise: A. hypothesis: B.", "neutral"),
    ],
    "glue-mnli-mismatched": [
        ("premise: It rains. hypothesis: It is wet.", "entailment"),
        ("premise: C. hypothesis: D.", "contradiction"),
    ],
    "glue-qnli": [
        ("question: When? sentence: In 1990.", "entailment"),
        ("question: Who? sentence: In 1990.", "not_entailment"),
    ],
    "glue-rte": [
        ("sentence1: No weapons. sentence2: Weapons.", "not_entailment"),
        ("sentence1: Dana died. sentence2: She died.", "entailment"),
    ],
    "glue-wnli": [("sentence1: I stuck a pin. sentence2: It hurt.", "1"), ("sentence1: A. sentence2: B.", "0")],
}


@pytest.fixture
def glue(own):
    """Return a function that writes the files of a corpus, with more text at the end of the first."""

    def write(name, more=""):
        (train, first), (test, second) = FILES[name]
        own(f"glue/{test}", second)
        return own(f"glue/{train}", first + more)

    return write


@pytest.mark.parametrize("name", FILES)
def test_each_task_is_read_in_its_own_layout(glue, name):
    glue(name)
    rows = load_corpus(name).rows
    assert [(row["text"], row["label"]) for row in rows] == OURS[name]
    assert [row["split"] for row in rows] == ["train"] * (len(rows) - 1) + ["test"]


@pytest.mark.parametrize(
    ("name", "more", "fault"),
    [
        ("glue-cola", "gj04\t2\t\tWhat.\n", "line 3: 'label' is '2', which is not one of 0, 1"),
        ("glue-cola", "gj04\t1\tWhat.\n", "line 3: has 3 fields where there are 4 columns"),
        ("glue-sst2", "\t1\n", "line 3: 'sentence' is empty"),
        (
            "glue-rte",
            "1\tA.\tB.\tmaybe\n",
            "line 3: 'label' is 'maybe', which is not one of entailment, not_entailment",
        ),
        ("glue-rte", "1\tA.\tB.\tC.\tentailment\n", "line 3: has 5 fields where there are 4 columns"),
        ("glue-stsb", STSB.replace("index", "1"), "line 3: 'score' is 'score', which is no number from 0 to 5"),
        (
            "glue-stsb",
            "1\tm\tf\t2012\t1\tn\tn\tA.\tB.\t5.1\n",
            "line 3: 'score' is '5.1', which is no number from 0 to 5",
        ),
        (
            "glue-stsb",
            "1\tm\tf\t2012\t1\tn\tn\tA.\tB.\tnan\n",
            "line 3: 'score' is 'nan', which is no number from 0 to 5",
        ),
        ("glue-qqp", "7\t8\t9\tA?\tB?\tyes\n", "line 3: 'is_duplicate' is 'yes', which is not one of 0, 1"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(glue, name, more, fault):
    path = glue(name, more)
    with pytest.raises(DataError) as caught:
        load_corpus(name)
    first, place = str(caught.value).splitlines()
    assert first.endswith("rows cannot be used; fix them, or get the file again")
    assert place == f"{path}, {fault}"


def test_a_byte_of_another_encoding_is_named(glue):
    path = glue("glue-sst2")
    path.write_bytes(path.read_bytes() + b"caf\xe9\t1\n")
    with pytest.raises(DataError, match=r"line 3: is not UTF-8 \(byte 0xe9\); save it as UTF-8$"):
        load_corpus("glue-sst2")


def test_a_file_without_rows_is_named(glue):
    path = glue("glue-sst2")
    path.write_text("sentence\tlabel\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"{path} has no rows; get the file again from https://gluebenchmark"):
        load_corpus("glue-sst2")


@pytest.mark.parametrize(
    ("corpus", "words", "found"),
    [
        ("glue-stsb", (), REGRESSION),
        ("glue-stsb", (f"data.problem_type={SINGLE}",), SINGLE),
        ("glue-stsb", ("data.task=causal-lm",), "auto"),
        ("glue-sst2", (), "auto"),
        ("toy", (), "auto"),
    ],
)
def test_labels_that_are_numbers_are_learned_as_numbers(corpus, words, found):
    recipe = read_recipe(TINY, [f"data.corpus={corpus}", "clients.partition=iid", *words])
    assert recipe.data.problem_type == found


def test_scores_are_trained_on_and_a_study_of_classes_refuses_them(own):
    lines = [f"0\tmain\tMSRvid\t2012\t{n}\tnone\tnone\tA plane {n}.\tA car {n % 3}.\t{n % 6}.0\n" for n in range(60)]
    for split in ("train", "dev"):
        own(f"glue/STS-B/{split}.tsv", STSB + "".join(lines))
    words = "data.corpus=glue-stsb", "clients.partition=iid", "data.test_rows=8", "clients.min_rows=2"
    prepared = prepare(read_recipe(TINY, [*words]))
    assert prepared.nodes[0].data.has_numbers
    with pytest.raises(ConfigError, match=r"problem_type = 'regression': study rank counts how many"):
        require_classes(Setting(TINY, words, 1), "rank")


@pytest.mark.parametrize("gap", ["10\t11\t12\tcut off", "10\t11\t12\tHow can I?\t\t0", "10\t11\t12\t \tHow can I?\t0"])
def test_rows_of_qqp_that_lack_fields_or_a_question_are_left_out_and_counted(gap, glue, caplog):
    path = glue("glue-qqp", f"{gap}\n")
    with caplog.at_level(logging.WARNING):
        rows = load_corpus("glue-qqp").rows
    assert [(row["text"], row["label"]) for row in rows] == OURS["glue-qqp"]
    assert caplog.messages == [f"{path}: 1 rows lack fields or a text and are left out"]


def test_a_file_with_other_columns_is_refused(own, glue):
    glue("glue-rte")
    path = own("glue/RTE/train.tsv", "index\tpremise\thypothesis\tlabel\n")
    with pytest.raises(DataError) as caught:
        load_corpus("glue-rte")
    assert str(caught.value) == (
        f"{path} has the columns 'index', 'premise', 'hypothesis', 'label', but not 'sentence1', 'sentence2'; "
        "put the file there as its publishers pack it"
    )
