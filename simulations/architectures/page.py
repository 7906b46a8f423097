"""The page of all trials: a table, and what fails with its reason."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import transformers

from simulations.architectures.trial import QUESTIONS, Trial

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
_INTRODUCTION = """\
# Architectures

`python -m simulations.architectures --write` made this page, with Transformers {version}: for each type of a model, two
clients of ranks 2 and 4 train `all-linear` on a tiny base with random weights, 2 rounds of 3 steps; the run is exported
and merged, and a language model writes a text. `peft` and `merges` are yes if the logits of PEFT, or of the merged
folder, are those of the run, and the update moves them at least a hundred times more. A no is told below, never left
out. Weights of a real size are another matter: memory, kernels and numbers in 16 bits are not tried here.

`all-linear` leaves out what cannot be adapted, and says so: routers that return more than one tensor, `out_proj` of
Mamba, which PEFT refuses, `dt_proj` of Mamba and Jamba, which those models never call, and, in many types of models
with experts, the projections of dense layers and shared experts, which PEFT takes for the experts' own. Named on
purpose, such a module is refused. What no text passes through, as a vision tower, is left out of names too. A run that
has begun keeps the modules that it began with; its `export` is refused if PEFT would not apply them all, and `merge`
is not.

## What a base may be

- A folder with `config.json`, a tokenizer, and `model.safetensors` or the shards of `model.safetensors.index.json`.
  Other weights beside them, as `consolidated.safetensors`, are not read, nor are they part of the fingerprint.
- An adapter beside the weights is not loaded, which is said; `[base] adapter` begins a run at it.
- `dtype = "auto"` holds the base as it is stored, in float32 on a device without units for that; `nf4` and `int8` hold
  it in [4 or 8 bits](quantised.md). `merge` writes the checkpoint's type.
- A classification head of its own is kept. If its classes are the labels, but for case and blanks, they have its order.
  Other names are taken by their place, with a warning; another number is refused. `head = "new"` (in a recipe: `[base]
  head`) replaces it; such an export needs `ignore_mismatched_sizes=True` where the base is loaded for PEFT with another
  number of labels. `head = "listed"` takes the labels as they are listed, as earlier releases did.
- `lm_head` and `embed_tokens` are targets where they are named. Tied weights stay tied, in training and in PEFT: each
  has factors of its own. Such an update cannot be merged, since one tensor would have to be two: export it.
- An encoder with a decoder, as T5 or BART, learns `task = "seq2seq"`; those that also have a class for it classify.
- No code of a model's folder runs (`auto_map`).

## The table

"""
_NAMES = {"trains": "trains", "exports": "`peft`", "merges": "merges", "generates": "generates"}


def page(trials: Sequence[Trial]) -> str:
    """Return the page of these trials."""
    version = ".".join(transformers.__version__.split(".")[:2])
    return _INTRODUCTION.format(version=version) + "\n".join([*_table(trials), "", *_faults(trials)]) + "\n"


def _table(trials: Iterable[Trial]) -> Iterable[str]:
    yield f"| type | task | {' | '.join(_NAMES[question] for question in QUESTIONS)} |"
    yield "| --- " * (2 + len(QUESTIONS)) + "|"
    for trial in trials:
        yield f"| {trial.kind} | {trial.task} | {' | '.join(row_of(trial))} |"


def row_of(trial: Trial) -> list[str]:
    """Return the cells of a trial's answers."""
    return [str(trial.answers[question]).partition(":")[0] for question in QUESTIONS]


def _faults(trials: Sequence[Trial]) -> Iterable[str]:
    faults = [(t.kind, q, t.answers[q].reason) for t in trials for q in QUESTIONS if t.answers[q].works is False]
    yield "## What fails" if faults else "Nothing fails."
    yield from [""] * bool(faults)
    yield from (f"- {kind}, {_NAMES[question]}: {reason}" for kind, question, reason in faults)


def read_rows(text: str) -> dict[tuple[str, str], list[str]]:
    """Return the cells of a page's table, by type and task."""
    rows = [re.findall(r"[^|]+", line) for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return {(row[0], row[1]): row[2:] for row in cells if row[0] not in ("type", "---")}
