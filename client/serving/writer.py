"""From tokens to pieces of text: whole characters only, and nothing of a stop string."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_HALF = "\N{REPLACEMENT CHARACTER}"
"""Ends the text of tokens whose last character is not complete."""


class Writer:
    """The text of tokens as they come: the pieces together are the text of all tokens, up to the first stop string."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._ids: list[int] = []
        self._shown, self._read = 0, 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token, and return the text that is certain now."""
        self._ids.append(token)
        return self._release(self._new_text(whole=True), last=False)

    def finish(self) -> str:
        """Return what was held back: what could have become a longer character or a stop string."""
        return self._release(self._new_text(whole=False), last=True)

    def _new_text(self, whole: bool) -> str:
        """Return the text of the tokens since the last one; decoded behind earlier ones, which decide on spaces."""
        before = self._decode(self._ids[self._shown : self._read])
        text = self._decode(self._ids[self._shown :])
        if len(text) <= len(before) or (whole and text.endswith(_HALF)):
            return ""
        self._shown, self._read = self._read, len(self._ids)
        return text[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _release(self, text: str, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = 0 if last else held_back(text, self._stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def held_back(text: str, stops: Sequence[str]) -> int:
    """Return the length of the longest end of a text with which a stop string begins."""
    longest = max(map(len, stops), default=1) - 1
    ends = (text[-n:] for n in range(min(longest, len(text)), 0, -1))
    return next((len(end) for end in ends if any(stop.startswith(end) for stop in stops)), 0)
