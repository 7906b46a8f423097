"""One architecture tried as a user would: a run on a tiny random base, its export in PEFT, its merge, its text."""

import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import tomli_w
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging as transformers_logging

from client.data.batches import Batch
from client.data.tokens import IGNORE
from client.exporting.export import export
from client.exporting.request import Request
from client.finished.run import load_run, load_test_rows
from client.finished.text import generate
from client.model.base_model import AUTO_MODELS
from client.model.forward import decoder_inputs, forward
from client.model.lora import frozen_lane
from client.objectives.examples import eval_batches
from common.settings.tasks import TASKS
from simulations.architectures.configs import DECODERS, ENCODERS, PAIRS, settings_of
from simulations.simulate import simulate
from simulations.tiny_base import tiny_base

QUESTIONS = ("trains", "exports", "merges", "generates")
TOLERANCE = 1e-4
"""Largest difference between logits that count as equal, of models whose logits are of the order of 1."""
_TOKENIZERS = {"SEQ_CLS": "bert", "CAUSAL_LM": "llama", "SEQ_2_SEQ_LM": "t5"}
"""Tiny bases whose tokenizers are taken."""
_RECIPE = {
    "clients": {"count": 2, "ranks": [2, 4], "partition": "iid"},
    "train": {"rounds": 2, "steps": 3, "batch": 8, "lr": 0.02},
    "lora": {"targets": "all-linear"},
    "workers": 1,
}


@dataclass(frozen=True)
class Answer:
    """Whether something works, and why not; `none` for text of an encoder."""

    works: bool | None
    reason: str = ""

    def __str__(self) -> str:
        """Return it as a cell of a table."""
        return "–" if self.works is None else "yes" if self.works else f"no: {self.reason}"


@dataclass(frozen=True)
class Trial:
    """What an architecture can do.

    Args:
        kind: type of the model.
        task: of its rows.
        answers: by question.
    """

    kind: str
    task: str
    answers: Mapping[str, Answer]


def kinds() -> tuple[tuple[str, str], ...]:
    """Return each type of a model and its task."""
    tables = {"causal-lm": DECODERS, "seq2seq": PAIRS, "classification": ENCODERS}
    return tuple((kind, task) for task, table in tables.items() for kind in table)


def try_kind(kind: str, task: str, folder: Path, **recipe: Mapping[str, Any]) -> Trial:
    """Try a type of a model in a new folder; tables of `recipe` replace those of the usual one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base, run = write_base(kind, task, folder / "base"), folder / "run"
        answers = {"trains": _answer(partial(_train, base, task, folder, recipe))}
        uses: Mapping[str, Callable[[], str]] = {
            "exports": partial(_export, run, folder / "peft"),
            "merges": partial(_merge, run, folder / "merged"),
            "generates": partial(_generate, run),
        }
        for question, use in uses.items():
            unasked = question == "generates" and not TASKS[task].generates
            answers[question] = Answer(None) if unasked or not answers["trains"].works else _answer(use)
    return Trial(kind, task, answers)


def write_base(kind: str, task: str, folder: Path, **changes: Any) -> Path:
    """Write a tiny base of this type with random weights; an encoder's has no head."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = AutoConfig.for_model(kind, **(settings_of(kind) | changes))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = AUTO_MODELS[TASKS[task].peft].from_config(config)
    (model if TASKS[task].generates else model.base_model).save_pretrained(folder)
    for file in tiny_base(_TOKENIZERS[TASKS[task].peft]).glob("*token*"):
        shutil.copy(file, folder)
    return folder


def _answer(use: Callable[[], str]) -> Answer:
    try:
        fault = use()
    except Exception as error:  # Whatever it raises is an answer.
        told = re.sub(r"(/[\w.-]+)+/(?=\w)", "", str(error).replace("|", "/"))
        fault = shorten(told, 160, placeholder=" ...") or type(error).__name__
    return Answer(not fault, fault)


def _train(base: Path, task: str, folder: Path, recipe: Mapping[str, Mapping[str, Any]]) -> str:
    tables: dict[str, Any] = {
        "base": {"path": str(base)},
        "data": {"corpus": "toy", "task": task, "max_length": 32, "test_rows": 8},
        **_RECIPE,
    }
    for name, table in recipe.items():
        tables[name] = tables.get(name, {}) | table
    file = folder / "recipe.toml"
    file.write_text(tomli_w.dumps(tables))
    simulate(file, [], "run", folder, None)
    trained = load_run(folder / "run")
    return "" if any(factors.b.any() for factors in trained.adapter.values()) else "no factor moved"


def _export(run: Path, out: Path) -> str:
    export(run, out, Request())
    trained = load_run(run)
    classes = {"num_labels": len(trained.node.data.labels)} if trained.node.data.labels else {}
    auto = AUTO_MODELS[TASKS[trained.node.data.task].peft]
    plain = auto.from_pretrained(trained.base.folder, trust_remote_code=False, **classes)
    if classes:
        plain.config.pad_token_id = trained.base.model.config.pad_token_id
    return _compare(run, PeftModel.from_pretrained(plain, out, trust_remote_code=False))


def _merge(run: Path, out: Path) -> str:
    export(run, out, Request(form="merged"))
    auto = AUTO_MODELS[TASKS[load_run(run).node.data.task].peft]
    AutoTokenizer.from_pretrained(out, trust_remote_code=False)
    return _compare(run, auto.from_pretrained(out, trust_remote_code=False))


def _generate(run: Path) -> str:
    generate(run, "The cow", 6)
    return ""


def _compare(run: Path, model: Any) -> str:
    """Return how far a model's logits are from those of base and update, if that is too far or the update too small."""
    batch, ours, base = _ours(run)
    asked: dict[str, Any] = {"use_cache": False} if ours.ndim == 3 else {}
    mask = batch.attention_mask
    if TASKS[load_run(run).node.data.task].seq2seq:
        asked |= decoder_inputs(load_run(run).base.model, batch.targets)
        mask = batch.targets != IGNORE
    theirs = model.eval()(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **asked).logits
    gap, moved = (_distance(each, ours, mask) for each in (theirs, base))
    if moved < 100 * TOLERANCE:
        return f"the update moves logits by {moved:.1e} only"
    return "" if gap <= TOLERANCE * max(1.0, float(ours.abs().max())) else f"logits differ by {gap:.1e}"


@torch.no_grad()
def _ours(run: Path) -> tuple[Batch, Tensor, Tensor]:
    """Return the test rows, and the logits of base and update, and of the base."""
    trained, (_, rows) = load_run(run), load_test_rows(run)
    skeleton, lora = trained.attach()
    (batch,) = eval_batches(rows, len(rows))
    base = forward(skeleton, batch)
    lora.lanes = [frozen_lane(trained.adapter, skeleton.device)]
    try:
        return batch, forward(skeleton, batch), base
    finally:
        lora.lanes = ()


def _distance(one: Tensor, other: Tensor, mask: Tensor) -> float:
    """Return the largest difference where there is a token."""
    apart = (one - other).abs()
    return float((apart if apart.ndim == 2 else apart * mask[..., None]).max().detach())
