"""A text that a model wrote, with its references, and the words that metrics of translation count."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Written:
    """A text that a model wrote, and what people wrote in its place: at least one reference."""

    text: str
    references: tuple[str, ...]


def words(text: str) -> list[str]:
    """Return the words of a text in small letters, parted as NIST's mteval-v13a parts them."""
    return _parted()(text.lower()).split()


@cache
def _parted() -> Callable[[str], str]:
    tokenizer: Any = import_module("sacrebleu.tokenizers.tokenizer_13a")
    parted: Callable[[str], str] = tokenizer.Tokenizer13a()
    return parted
