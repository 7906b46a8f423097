"""Sample answers of a language model before and after training, side by side."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.data.tokens import IGNORE, Example
from client.finished.run import Trained, load_run, load_test_rows
from client.finished.text import continue_text
from client.objectives.examples import Examples
from client.objectives.seq2seq import SourceTarget
from common.adapters.adapter import Adapter

_MARKS = 4
"""Room for the tokens before a text that is written."""


def samples(run: Path, count: int = 2, tokens: int = 40) -> list[dict[str, str]]:
    """Return `prompt`, `expected`, `before` (the plain base) and `after` (with the run's update) of some test rows.

    The rows are spread evenly over the test rows; expected and generated answers end after `tokens` tokens.

    Raises:
        JournalError, DataError: the folder is not a run, or it has no test rows.
    """
    trained, (_, rows) = load_run(run), load_test_rows(run)
    return [_sample(trained, row, tokens) for row in _spread(rows, count)]


def _spread(rows: Examples, count: int) -> Sequence[Any]:
    return rows.rows[:: max(1, len(rows) // count)][:count]


def _sample(trained: Trained, row: Example | SourceTarget, tokens: int) -> dict[str, str]:
    if isinstance(row, SourceTarget):
        prompt, answer = row.source.ids.tolist(), row.target.ids[:tokens].tolist()
        tokens = min(tokens, (trained.base.positions or sys.maxsize) - _MARKS)
    else:
        start = _answer_start(row)
        tokens = min(tokens, (trained.base.positions or sys.maxsize) - start)
        prompt, answer = row.ids[:start].tolist(), row.ids[start : start + tokens].tolist()
    return {
        "prompt": trained.base.tokenizer.decode(prompt, skip_special_tokens=True),
        "expected": trained.base.tokenizer.decode(answer, skip_special_tokens=True),
        "before": continue_text(trained, Adapter({}), prompt, tokens),
        "after": continue_text(trained, trained.adapter, prompt, tokens),
    }


def _answer_start(row: Example) -> int:
    """Return the position of the first answer; in a plain text, which is learned from its beginning, the middle."""
    start = int(np.argmax(np.asarray(row.targets) != IGNORE))
    return start if start > 1 else len(row.ids) // 2
