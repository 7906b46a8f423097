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

from client.data.frame import Frame
from client.data.row_checks import BadRow, read_each, read_text
from client.data.rows import Row, by_line

Ids = NDArray[np.int32]
Tokens = tuple[list[int], list[bool]]
"""Token ids (t,), and which of them are learned (t,)."""

IGNORE = -100
"""The target of a token without loss, as `torch.nn.functional.cross_entropy` ignores it by default."""


@dataclass(frozen=True, eq=False)
class Example:
    """A tokenised row.

    Args:
        ids: (t,).
        targets: a label's number, float32 (C,) of a set of labels or of numbers, or (t,) with IGNORE on tokens without
            loss.
        cut: number of tokens that were cut off.
    """

    ids: Ids
    targets: int | Ids | NDArray[np.float32]
    cut: int

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
    texts = read_each(file, by_line(rows), lambda row: tuple(read_text(row.fields, column) for column in columns))
    return joined_texts(texts, tokenizer)


def joined_texts(texts: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase) -> tuple[Tokens, ...]:
    """Tokenise the parts of each text as `joined_tokens` does; a text that has its beginning or end gets no second."""
    plain = [text_ids(tokenizer, each, add_special_tokens=False, verbose=False) for each in zip(*texts, strict=True)]
    framed = Frame.of(tokenizer)
    return tuple(framed.marked([*chain(*given)], learned) for *given, learned in zip(*plain, strict=True))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids (t,) of a text to be continued: begun as in training, and without the end that a tokenizer adds.

    After an end of text, a model would begin another one.
    """
    return Frame.of(tokenizer).begun(text_ids(tokenizer, [text], add_special_tokens=False, verbose=False)[0])


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
    return Example(kept, targets, cut=len(ids) - len(kept))
