"""The tokens that begin and end a text, which a text that was rendered with them already has.

They are told by ids, blanks aside: a rendered chat often ends in its end of turn and a newline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Frame:
    """What is put around a text.

    Args:
        tokenizer: of the text.
        beginning: ids that the tokenizer begins a text with.
        end: ids that a text ends with.
    """

    tokenizer: PreTrainedTokenizerBase
    beginning: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return the tokenizer's beginning, if it adds one, and its end, if it has one."""
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        begins = bos is not None and tokenizer("")["input_ids"][:1] == [bos]
        return cls(tokenizer, (bos,) if begins else (), () if eos is None else (eos,))

    def begun(self, ids: list[int]) -> list[int]:
        """Return ids (t,) with the beginning, which is not added twice."""
        return ids if self._is_first(ids, self.beginning) else [*self.beginning, *ids]

    def marked(self, given: list[int], learned: list[int]) -> tuple[list[int], list[bool]]:
        """Return ids and marks (t,) of a prompt, which may be empty, and what is learned after it, with its end.

        What is learned has no beginning of its own after a prompt.
        """
        begins = self._is_first(given or learned, self.beginning)
        before = given if begins else [*self.beginning, *given]
        if given and self._is_first(learned, self.beginning):
            learned = learned[learned.index(self.beginning[0]) + 1 :]
        after = learned if self._is_first(learned[::-1], self.end) else [*learned, *self.end]
        return before + after, [False] * len(before) + [True] * len(after)

    def _is_first(self, ids: Sequence[int], frame: Sequence[int]) -> bool:
        """Return whether ids begin with those of the frame, blanks before them aside."""
        if not frame or frame[0] not in ids:
            return False
        place = ids.index(frame[0])
        return place == 0 or not str(self.tokenizer.decode(list(ids[:place]))).strip()


def unframed(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[str]:
    """Return texts without the special tokens at their beginnings and ends that the tokenizer will put there itself."""
    empty, one = (tokenizer(text)["input_ids"] for text in ("", "a"))
    count = next((n for n, (a, b) in enumerate(zip(empty, one, strict=False)) if a != b), len(empty))
    beginning, end = (tokenizer.convert_ids_to_tokens(ids) for ids in (empty[:count], empty[count:]))
    return [text.removeprefix("".join(beginning)).removesuffix("".join(end)) for text in texts]
