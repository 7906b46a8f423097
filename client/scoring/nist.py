"""NIST, Doddington, HLT 2002: n-grams that few references have count more.

As the E2E challenge's script counts with several references: an n-gram is found if any of them has it, and the penalty
compares with their mean length. (NLTK's takes the best single reference; with one reference the two agree.)
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from client.scoring.written import Written, words

_LONGEST = 5
_BETA = math.log(2) / math.log(1.5) ** 2
"""Makes the penalty 0.5 where the text has two thirds of the references' words."""
_Words = Sequence[str]
_Gram = tuple[str, ...]


def nist(texts: Sequence[Written]) -> float:
    """Return the NIST score of all texts together, from 0; it has no upper bound."""
    written = [words(each.text) for each in texts]
    references = [[words(reference) for reference in each.references] for each in texts]
    information = _information(references)
    gain = sum(_gain(written, references, information, n) for n in range(1, _LONGEST + 1))
    length = sum(sum(map(len, each)) / len(each) for each in references)
    return gain * _penalty(sum(map(len, written)) / length) if length else 0.0


def _information(references: Sequence[Sequence[_Words]]) -> dict[_Gram, float]:
    """Return log2 of how often the references have an n-gram without its last word for each time they have it."""
    every = [reference for each in references for reference in each]
    counts = Counter(gram for each in every for n in range(1, _LONGEST + 1) for gram in _grams(each, n))
    counts[()] = sum(map(len, every))
    return {gram: math.log2(counts[gram[:-1]] / count) for gram, count in counts.items() if gram}


def _gain(
    written: Sequence[_Words], references: Sequence[Sequence[_Words]], information: dict[_Gram, float], n: int
) -> float:
    """Return the information in the found n-grams for each n-gram that was written."""
    found = 0.0
    for own, others in zip(written, references, strict=True):
        most: Counter[_Gram] = Counter()
        for other in others:
            most |= Counter(_grams(other, n))
        found += sum(information[gram] * count for gram, count in (Counter(_grams(own, n)) & most).items())
    total = sum(max(0, len(own) - n + 1) for own in written)
    return found / total if total else 0.0


def _penalty(ratio: float) -> float:
    """Return the factor for texts that have this many words for one of the references'."""
    if ratio <= 0:
        return 0.0
    return math.exp(-_BETA * math.log(min(ratio, 1.0)) ** 2)


def _grams(text: _Words, n: int) -> Iterator[_Gram]:
    return zip(*(text[begin:] for begin in range(n)), strict=False)
