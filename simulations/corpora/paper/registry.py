"""The data sets by the names that `[data] corpus` has for them."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from client.data.files.text import ENCODING_REMEDY
from common.errors import DataError
from common.settings.recipe import Recipe
from common.settings.tasks import REGRESSION, SINGLE, TASKS, Problem
from simulations.corpora.paper.descriptions import read_dart, read_e2e, read_webnlg
from simulations.corpora.paper.files import PaperRow
from simulations.corpora.paper.glue import read_table
from simulations.corpora.paper.questions import read_samsum, read_wikisql

SPLIT = "split"
"""Column that says whether a row is to `train` on or to `test` on."""


@dataclass(frozen=True)
class Published:
    """A data set as it is published.

    Args:
        read: returns the rows of a file.
        train: file, or folder of files, to train on, below `$FEDLORA_DATA`.
        test: the one that is measured on.
        site: where it is.
        problem_type: what the labels are, of those that have labels.
    """

    read: Callable[[Path], tuple[PaperRow, ...]]
    train: str
    test: str
    site: str
    problem_type: Problem = SINGLE


def _glue(task: str, train: str, test: str) -> Published:
    return Published(partial(read_table, task), f"glue/{train}", f"glue/{test}", "https://gluebenchmark.com/tasks")


def _glue_folder(task: str, folder: str, test: str = "dev.tsv") -> Published:
    return _glue(task, f"{folder}/train.tsv", f"{folder}/{test}")


def _e2e(train: str) -> Published:
    test = "e2e_nlg/testset_w_refs.csv"
    return Published(read_e2e, f"e2e_nlg/{train}", test, "https://github.com/tuetschek/e2e-dataset")


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "glue-cola": _glue_folder("cola", "CoLA"),
        "glue-sst2": _glue_folder("sst2", "SST-2"),
        "glue-mrpc": _glue("mrpc", "MRPC/msr_paraphrase_train.txt", "MRPC/msr_paraphrase_test.txt"),
        "glue-qqp": _glue_folder("qqp", "QQP"),
        "glue-stsb": replace(_glue_folder("stsb", "STS-B"), problem_type=REGRESSION),
        "glue-mnli": _glue_folder("mnli", "MNLI", "dev_matched.tsv"),
        "glue-mnli-mismatched": _glue_folder("mnli", "MNLI", "dev_mismatched.tsv"),
        "glue-qnli": _glue_folder("qnli", "QNLI"),
        "glue-rte": _glue_folder("rte", "RTE"),
        "glue-wnli": _glue_folder("wnli", "WNLI"),
        "e2e": _e2e("trainset.csv"),
        "e2e-dev": _e2e("devset.csv"),
        "webnlg": Published(read_webnlg, "webnlg/train", "webnlg/test", "https://gitlab.com/shimorina/webnlg-dataset"),
        "dart": Published(
            read_dart,
            "dart/dart-v1.1.1-full-train.json",
            "dart/dart-v1.1.1-full-test.json",
            "https://github.com/Yale-LILY/dart",
        ),
        "wikisql": Published(
            read_wikisql, "wikisql/train.jsonl", "wikisql/test.jsonl", "https://github.com/salesforce/WikiSQL"
        ),
        "samsum": Published(read_samsum, "samsum/train.json", "samsum/test.json", "https://arxiv.org/abs/1911.12237"),
    }
)


def read_published(name: str) -> Iterator[PaperRow]:
    """Yield the rows of a data set: to train on, then to test on, as the column `split` says.

    Raises:
        DataError: a file is not there, or some of its rows are broken.
    """
    published = PUBLISHED[name]
    for split, file in (("train", published.train), ("test", published.test)):
        for row in _read(published, _find(name, published, file)):
            yield {**row, SPLIT: split}


def with_problem_type(recipe: Recipe) -> Recipe:
    """Return the recipe with what the labels of its data set are, in place of "auto"."""
    published, data = PUBLISHED.get(recipe.data.corpus or ""), recipe.data
    if published is None or published.problem_type == SINGLE or data.problem_type != "auto":
        return recipe
    return (
        replace(recipe, data=replace(data, problem_type=published.problem_type)) if TASKS[data.task].labels else recipe
    )


def _read(published: Published, path: Path) -> tuple[PaperRow, ...]:
    try:
        rows = published.read(path)
    except DataError as error:  # All of them are in UTF-8, whatever the encoding of a recipe's own files.
        raise DataError(str(error).replace(ENCODING_REMEDY, "save it as UTF-8")) from None
    if not rows:
        raise DataError(f"{path} has no rows; get the file again from {published.site}")
    return rows


def _find(name: str, published: Published, file: str) -> Path:
    root = os.environ.get("FEDLORA_DATA")
    remedy = (
        f"set FEDLORA_DATA to a folder that has {published.train} and {published.test}, unpacked from {published.site}"
    )
    if not root:
        raise DataError(f"the data of corpus {name} is not available; {remedy}")
    path = Path(root).expanduser() / file
    if not path.exists():
        raise DataError(f"corpus {name}: FEDLORA_DATA is set, but {path} does not exist; {remedy}")
    return path
