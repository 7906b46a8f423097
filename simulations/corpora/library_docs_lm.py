"""Library docs for a language model: what does this function or class do?

The rows of library-docs with the sentences as written: nothing is masked, since the library need not be guessed.
"""

from itertools import groupby, islice
from textwrap import shorten

from simulations.corpora import library_docs
from simulations.corpora.corpus import Corpus, CorpusRow, from_jsonl, to_jsonl

ROWS_PER_LIBRARY = 100
_LONGEST_SIGNATURE = 120  # characters; some have thousands, which would leave no room for an answer


def load() -> Corpus:
    """Return at most 100 rows a library: `prompt` (name and signature), `completion` (the first sentence), `library`.

    Raises:
        DataError: a library is not installed, or lacks its sources.
    """
    libraries = groupby(library_docs.load().rows, key=lambda row: row["label"])
    return from_jsonl(to_jsonl(_question(row) for _, own in libraries for row in islice(own, ROWS_PER_LIBRARY)))


def _question(row: CorpusRow) -> dict[str, str]:
    signature = shorten(row["signature"], _LONGEST_SIGNATURE, placeholder=" ...")
    return {
        "prompt": f"What does {row['name']} do?\n{signature}\nAnswer:",
        "completion": f" {row['sentence']}",
        "library": row["label"],
    }
