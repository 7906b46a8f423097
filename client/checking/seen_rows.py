"""A row as the model sees it: its tokens as text, and which of them are special or carry loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from client.checking.repeats import examples_of
from client.data.tokens import IGNORE, Example

_ENDS = 100
"""Tokens that are shown of each end of a long row."""


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of a row as text, all alike.

    Args:
        text: of the tokens.
        learned: they carry loss.
        special: the tokenizer has them as marks, not as text.
    """

    text: str
    learned: bool = False
    special: bool = False


@dataclass(frozen=True)
class Seen:
    """One row of the model's input: its number of tokens, those that carry loss, and the text of all or its ends."""

    name: str
    tokens: int
    learned: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class SeenRow:
    """A row with its number among those that a run uses, from 1, and its target if that is no token."""

    number: int
    parts: tuple[Seen, ...]
    target: str | None


def see(number: int, row: Any, labels: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> SeenRow:
    """Return the encoded row as the model sees it."""
    parts = examples_of(row)
    seen = tuple(_seen(name, part, tokenizer) for name, part in parts)
    return SeenRow(number, seen, _target(parts[0][1], labels, tokenizer))


_WRITTEN = "target"
"""The part of a row that is written: all of its tokens carry loss, also the first."""


def _target(part: Example, labels: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return what a row is to give, if that is none of its own tokens: labels, numbers, or a text."""
    if _of_tokens("", part) is not None:
        return None
    value = np.asarray(part.targets)
    if value.dtype.kind in "iu" and labels and value.ndim == 0:
        return labels[int(value)]
    if labels and value.shape == (len(labels),):
        return ", ".join(name for name, on in zip(labels, value, strict=True) if on > 0) or "none"
    if value.dtype.kind in "iu" and value.ndim == 1:
        return _text([each for each in value.tolist() if each != IGNORE], tokenizer)
    return ", ".join(f"{each:g}" for each in value.ravel().tolist())


def _of_tokens(name: str, part: Example) -> np.ndarray[Any, Any] | None:
    """Return which of the tokens carry loss; None if the targets are no tokens. The first of what is read has none."""
    targets = part.targets
    if not isinstance(targets, np.ndarray) or targets.shape != part.ids.shape or targets.dtype.kind != "i":
        return None
    return np.concatenate([[name == _WRITTEN], targets[1:] != IGNORE])


def _seen(name: str, part: Example, tokenizer: PreTrainedTokenizerBase) -> Seen:
    marks = _of_tokens(name, part)
    learned = np.zeros(len(part), np.bool_) if marks is None else marks
    ids, flags, count = part.ids.tolist(), learned.tolist(), len(part)
    if count <= 2 * _ENDS:
        spans = tuple(_spans(ids, flags, tokenizer))
    else:
        begin, end = slice(_ENDS), slice(count - _ENDS, count)
        gap = Span(f" [... {count - 2 * _ENDS} more tokens ...] ", special=True)
        spans = (*_spans(ids[begin], flags[begin], tokenizer), gap, *_spans(ids[end], flags[end], tokenizer))
    return Seen(name, count, int(learned.sum()), spans)


def _spans(ids: list[int], learned: list[bool], tokenizer: PreTrainedTokenizerBase) -> Iterator[Span]:
    special = {*tokenizer.all_special_ids}
    kinds = [(mark, each in special) for each, mark in zip(ids, learned, strict=True)]
    end, before = 0, ""
    for (mark, is_special), group in groupby(kinds):
        begin, end = end, end + len(list(group))
        # Alone, some tokens lose the blank before them, so a span is what its tokens add to the text before.
        text = _text(ids[:end], tokenizer)
        own = text[len(before) :] if text.startswith(before) else _text(ids[begin:end], tokenizer)
        yield Span(own, mark, is_special)
        before = text


def _text(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
