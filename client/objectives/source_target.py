"""Tokens of one side of a pair: the text that an encoder reads, or the one that a decoder writes.

Each side has the marks that the tokenizer puts around it there, such as languages; a text that was rendered with them
gets no second ones, and one that is cut keeps them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from transformers import PreTrainedTokenizerBase

from client.data.tokens import IGNORE, Example
from common.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Side:
    """One side.

    Args:
        tokenizer: of both.
        written: it is the decoder's.
        beginning: ids before a text.
        end: ids after it; what is written ends in an end of text, if the tokenizer has one.
    """

    tokenizer: PreTrainedTokenizerBase
    written: bool
    beginning: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, written: bool) -> Self:
        """Return what the tokenizer puts around a text of this side."""
        empty, one = _ids(tokenizer, ["", "a"], written, marks=True)
        count = next((n for n, (a, b) in enumerate(zip(empty, one, strict=False)) if a != b), len(empty))
        end, eos = empty[count:], tokenizer.eos_token_id
        ends = eos is None or not written or eos in end
        return cls(tokenizer, written, tuple(empty[:count]), (*end, *(() if ends or eos is None else (eos,))))

    def examples(self, texts: Sequence[str], max_length: int) -> tuple[Example, ...]:
        """Tokenise texts, each to at most `max_length` tokens with its marks; all of what is written is learned.

        Raises:
            ConfigError: there is no room for text.
        """
        room = max_length - len(self.beginning) - len(self.end)
        if texts and room < 1:
            raise ConfigError(
                f"max_length = {max_length} has room only for the tokenizer's {max_length - room} special tokens; "
                "raise it"
            )
        plain = _ids(self.tokenizer, texts, self.written, marks=False)
        return tuple(self._example(self.bare(ids), room) for ids in plain)

    def read(self, text: str) -> list[int]:
        """Return the ids (s,) of a whole text with its marks."""
        (ids,) = _ids(self.tokenizer, [text], self.written, marks=False)
        return [*self.beginning, *self.bare(ids), *self.end]

    def bare(self, ids: list[int]) -> list[int]:
        """Return ids without the marks of this side that a text has already, and the blanks around them."""
        after = self._cut_marks(ids[::-1], self.beginning)[::-1]
        return self._cut_marks(after, self.end)

    def _cut_marks(self, ids: list[int], marks: Sequence[int]) -> list[int]:
        """Return ids without marks at the end; blanks may be between and after them."""
        while places := [place for place, each in enumerate(ids) if each in marks]:
            if str(self.tokenizer.decode(ids[places[-1] + 1 :])).strip():
                break
            ids = ids[: places[-1]]
        return ids

    def _example(self, ids: list[int], room: int) -> Example:
        kept = np.array([*self.beginning, *ids[:room], *self.end], np.int32)
        targets = kept if self.written else np.full_like(kept, IGNORE)
        return Example(kept, targets, cut=max(len(ids) - room, 0))


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], written: bool, marks: bool) -> list[list[int]]:
    """Return the ids of each text, as the tokenizer writes those of this side, with its marks or without."""
    given = {"text_target" if written else "text": list(texts)}
    found = tokenizer(**given, add_special_tokens=marks, verbose=False)["input_ids"] if texts else []
    return [*found]
