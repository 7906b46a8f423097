"""Rows to train on that need no download, and readers of common layouts."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from common.errors import ConfigError, nearest
from simulations.corpora import library_docs, toy
from simulations.corpora.corpus import Corpus

__all__ = ["CORPORA", "Corpus", "load_corpus"]

CORPORA: Mapping[str, Callable[[], Corpus]] = MappingProxyType({"library-docs": library_docs.load, "toy": toy.load})


def load_corpus(name: str) -> Corpus:
    """The corpus of that name.

    Raises:
        ConfigError: there is none.
        DataError: what it is made from is not installed.
    """
    if name not in CORPORA:
        raise ConfigError(f"[data] corpus = {name!r} is unknown{nearest(name, CORPORA)}")
    return CORPORA[name]()
