"""Tokenisation of texts: token ids and training targets.

A target is at the position of the id it equals (`targets[t]` is `ids[t]` or IGNORE); the loss shifts by one, so the
first never counts. A prompt and its completion are tokenised separately and joined: a space or newline between them
belongs to the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from client.data.chat import Tokens
from client.data.row_checks import BadRow, read_each, read_text
from client.data.rows import Row, by_line

Ids = NDArray[np.int32]

IGNORE = -100
"""The target of a token without loss, as `torch.nn.functional.cross_entropy` ignores it by default."""


@dataclass(frozen=True, eq=False)
class Example:
    """A tokenised row: ids (t,), targets (a label's number, or (t,) with IGNORE on tokens without loss), cut flag."""

    ids: Ids
    targets: int | Ids
    cut: bool

    def __len__(self) -> int:
        return len(self.ids)


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that pads the shorter rows of a batch.

    It may equal a real token (SmolLM2 pads with its end of text), so only the attention mask shows the padding.
    """
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(each for each in ids if each is not None)


def text_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **settings: Any) -> list[list[int]]:
    """Return the ids of each text, all tokenised together, which is fast."""
    ids: list[list[int]] = tokenizer(list(texts), **settings)["input_ids"] if texts else []
    return ids


def joined_tokens(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path, *columns: str
) -> tuple[Tokens, ...]:
    """Tokenise beginning (if the tokenizer adds one) and prompt without loss, then last column and end with loss.

    Raises:
        DataError: a row lacks text in one of the columns.
    """
    bos, eos = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
    beginning = bos if tokenizer("")["input_ids"][:1] == bos else []
    end = eos if eos != [None] else []
    texts = read_each(file, by_line(rows), lambda row: [read_text(row.fields, column) for column in columns])
    plain = [text_ids(tokenizer, each, add_special_tokens=False, verbose=False) for each in zip(*texts, strict=True)]
    return tuple(_mark([*beginning, *chain(*given)], [*learned, *end]) for *given, learned in zip(*plain, strict=True))


def _mark(given: list[int], learned: list[int]) -> Tokens:
    return given + learned, [False] * len(given) + [True] * len(learned)


def cut_examples(rows: Sequence[Row], tokens: Sequence[Tokens], max_length: int, file: Path) -> tuple[Example, ...]:
    """Make an example of each row's first `max_length` tokens, which learns those that are marked.

    Raises:
        DataError: nothing is left to learn from in a row.
    """
    numbered = zip((row.line for row in rows), tokens, strict=True)
    return read_each(file, numbered, lambda each: _example(*each, max_length))


def _example(ids: list[int], learned: list[bool], max_length: int) -> Example:
    kept = np.array(ids[:max_length], np.int32)
    targets = np.where(learned[:max_length], kept, np.int32(IGNORE))
    if (targets[1:] == IGNORE).all():
        raise BadRow(f"has nothing to learn in its first {max_length} tokens; raise max_length")
    return Example(kept, targets, cut=len(ids) > max_length)
