"""Preferences on made-up sentences, for tests: the sentence's own place is chosen, another place is rejected."""

import numpy as np

from simulations.corpora import toy
from simulations.corpora.corpus import Corpus, from_jsonl, to_jsonl


def load() -> Corpus:
    """Return the 400 rows of the toy corpus as `prompt`, `chosen`, `rejected`; always the same."""
    random = np.random.Generator(np.random.Philox(1))
    rows = toy.load().rows
    answers = sorted({row["completion"] for row in rows})
    return from_jsonl(to_jsonl(_row(row, answers, random) for row in rows))


def _row(row: dict[str, str], answers: list[str], random: np.random.Generator) -> dict[str, str]:
    others = [answer for answer in answers if answer != row["completion"]]
    rejected = str(random.choice(others))
    return {"prompt": row["prompt"], "chosen": row["completion"], "rejected": rejected}
