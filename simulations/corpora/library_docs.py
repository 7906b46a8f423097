"""Library docs: which library does a sentence document?

The first sentences of docstrings of installed packages and of the standard library. The names of all these libraries
are masked in all sentences, so that no name gives the answer away.
"""

import platform
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from common.errors import DataError
from simulations.cache import build_once
from simulations.corpora.corpus import Corpus, from_jsonl, to_jsonl
from simulations.corpora.docstrings import Documented, read_documented, sources, text_hash

MASK = "[LIB]"
ROWS_PER_LIBRARY = 600
_SENTENCES_READ = 1000  # more than are kept: a sentence that two libraries share is dropped
_WORDS = range(5, 41)
_VERSION = 2  # in the cache's key: raise it when this file or docstrings.py makes different rows


@dataclass(frozen=True)
class Library:
    """One class of the task.

    Args:
        label: the name of its distribution; `python` is the standard library.
        package: its folder.
        names: masked with the whole word that they are a part of, in any case.
        words: masked only as whole words, since other words contain them by chance.
    """

    label: str
    package: str
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


LIBRARIES = (
    Library("flwr", "flwr", names=("flwr",), words=("flower",)),
    Library("fonttools", "fontTools", names=("fonttools",)),
    Library("huggingface_hub", "huggingface_hub", names=("huggingface", "hugging face"), words=("hf",)),
    Library("matplotlib", "matplotlib", names=("matplotlib", "pyplot"), words=("mpl", "plt")),
    Library("networkx", "networkx", names=("networkx",), words=("nx",)),
    Library("numpy", "numpy", names=("numpy",), words=("np",)),
    Library("prompt_toolkit", "prompt_toolkit", names=("prompt_toolkit", "prompt-toolkit", "prompt toolkit")),
    Library("pydantic", "pydantic", names=("pydantic",)),
    Library("pygments", "pygments", names=("pygments",)),
    Library("python", "", names=("python",)),
    Library("rich", "rich", words=("rich",)),
    Library("sqlalchemy", "sqlalchemy", names=("sqlalchemy",)),
    Library("sympy", "sympy", names=("sympy",)),
    Library("torch", "torch", names=("torch",)),
    Library("transformers", "transformers", names=("transformers",)),
)


def load() -> Corpus:
    """Return at most 600 rows a library: `text`, `label`, and the object's `name`, `signature` and `sentence`.

    The same packages give the same rows, in the same order; they are read once and cached.

    Raises:
        DataError: a library is not installed, or lacks its sources.
    """
    versions = [f"{library.label}=={version(library)}" for library in LIBRARIES]
    key = text_hash(f"{_VERSION} {versions}")[:16]
    return from_jsonl(build_once(f"corpora/library-docs-{key}.jsonl", _write).read_bytes())


def mask(sentence: str) -> str:
    """Replace each word of the sentence that contains the name of one of the libraries by `[LIB]`."""
    return _ANY_NAME.sub(MASK, sentence)


def version(library: Library) -> str:
    """Return the installed version.

    Raises:
        DataError: the library is not installed.
    """
    if library.label == "python":
        return platform.python_version()
    try:
        return metadata.version(library.label)
    except metadata.PackageNotFoundError:
        raise DataError(
            f"corpus library-docs reads the package {library.label}, which is not installed; "
            f"run: pip install {library.label}"
        ) from None


def _write(path: Path) -> None:
    path.write_bytes(to_jsonl(_rows()))


def _rows() -> Iterator[dict[str, str]]:
    candidates = {library.label: _candidates(library) for library in LIBRARIES}
    owners = Counter(text for own in candidates.values() for text in own)
    for label, own in candidates.items():
        texts = sorted((text for text in own if owners[text] == 1), key=text_hash)
        for text in texts[:ROWS_PER_LIBRARY]:
            yield {"text": text, "label": label} | vars(own[text])


def _candidates(library: Library) -> dict[str, Documented]:
    """Return the library's documented objects by masked sentence, read file by file until there are enough."""
    folder = _folder(library)
    found: dict[str, Documented] = {}
    for path in sources(folder):
        for item in read_documented(path, _module(path.relative_to(folder), library)):
            text = mask(item.sentence)
            if len(text.split()) in _WORDS:
                found.setdefault(text, item)
        if len(found) >= _SENTENCES_READ:
            return found
    if not found:
        raise DataError(f"{folder} contains no docstrings; install {library.label} with its .py files")
    return found


def _folder(library: Library) -> Path:
    if library.label == "python":
        return Path(sysconfig.get_path("stdlib"))
    return Path(str(metadata.distribution(library.label).locate_file(library.package)))


def _module(path: Path, library: Library) -> str:
    parts = [library.package, *path.with_suffix("").parts]
    return ".".join(part for part in parts if part and part != "__init__")


def _name_pattern() -> re.Pattern[str]:
    """Make the pattern of all names; a word is a run of letters, so `is_torch_available` contains the word `torch`."""
    letter = r"[^\W\d_]"
    names = "|".join(re.escape(name) for library in LIBRARIES for name in library.names)
    words = "|".join(re.escape(word) for library in LIBRARIES for word in library.words)
    return re.compile(f"{letter}*(?:{names}){letter}*|(?<!{letter})(?:{words})(?!{letter})", re.IGNORECASE)


_ANY_NAME = _name_pattern()
