"""Made-up sentences about four places, for tests: each place has its own words and borrows some of the others'."""

import numpy as np

from simulations.corpora.corpus import Corpus, from_jsonl, to_jsonl

ROWS = 400
_NEUTRAL = 0.3
_BORROWED = 0.15

_WORDS = {
    "farm": ["barn", "cow", "field", "hay", "horse", "pig", "plough", "sheep", "tractor", "wheat"],
    "harbour": ["anchor", "boat", "captain", "dock", "fish", "gull", "mast", "sail", "tide", "wave"],
    "kitchen": ["bread", "butter", "knife", "oven", "pan", "plate", "pot", "soup", "spoon", "table"],
    "station": ["clock", "driver", "luggage", "platform", "rail", "signal", "ticket", "track", "train", "tunnel"],
}
_COMMON = ["a", "and", "by", "near", "old", "small", "the", "with"]


def load() -> Corpus:
    """Return 400 rows `text`, `label` (four classes of 100), `prompt`, `completion`; always the same."""
    random = np.random.Generator(np.random.Philox(0))
    labels = sorted(_WORDS)
    rows = [_row(labels[i % len(labels)], random) for i in range(ROWS)]
    return from_jsonl(to_jsonl(rows))


def _row(label: str, random: np.random.Generator) -> dict[str, str]:
    text = " ".join(_word(label, random) for _ in range(random.integers(6, 13)))
    return {"text": text, "label": label, "prompt": f"{text} is seen at the", "completion": f" {label}"}


def _word(label: str, random: np.random.Generator) -> str:
    kind = random.random()
    if kind < _NEUTRAL:
        return str(random.choice(_COMMON))
    place = random.choice(sorted(_WORDS)) if kind < _NEUTRAL + _BORROWED else label
    return str(random.choice(_WORDS[place]))
