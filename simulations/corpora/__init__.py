"""Corpora, rows to train on: some need no download, others are public data sets from a folder or the hub."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from common.errors import look_up
from simulations.corpora import library_docs, library_docs_lm, public, toy, toy_preference
from simulations.corpora.corpus import Corpus, from_jsonl, to_jsonl
from simulations.corpora.paper.registry import PUBLISHED, read_published

__all__ = ["CORPORA", "Corpus", "load_corpus"]


def _published(name: str) -> Corpus:
    return from_jsonl(to_jsonl(read_published(name)))


CORPORA: Mapping[str, Callable[[], Corpus]] = MappingProxyType(
    {
        "library-docs": library_docs.load,
        "library-docs-lm": library_docs_lm.load,
        "toy": toy.load,
        "toy-preference": toy_preference.load,
        **{name: partial(public.load, name) for name in public.PUBLIC},
        **{name: partial(_published, name) for name in PUBLISHED},
    }
)


def load_corpus(name: str) -> Corpus:
    """Return the corpus of that name.

    Raises:
        ConfigError: it does not exist.
        DataError: its sources are not installed or not available.
    """
    return look_up(CORPORA, "[data] corpus", name)()
